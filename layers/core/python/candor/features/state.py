"""State of one (view, entity): its stored form, the application of events, and feature values.

A void names an event and undoes what it counted (`voids.py`). Without proof that it matches what was counted, nothing
is undone: the state is `stale` until it is healed from the archive (ADR 0029).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from candor.clock import HOUR, SECOND
from candor.contracts import Event
from candor.features import segment, size
from candor.features.aggregations import moment
from candor.features.codec import CODEC, id_hash, seal, unseal
from candor.features.event_types import MAX_SKEW
from candor.features.plan import Row, Tile, ViewPlan, plan_of
from candor.features.segment import Segment
from candor.features.views import FeatureView
from candor.features.voids import Resolve, VoidEvidence, Voids

RING_IDS = size.RING_IDS

MARKERS, FOLDED, STALE, FILLED = 1, 2, 4, 8
"""Flags of an item."""

STAMP = 32
"""Bits by which a ring entry's second of application is shifted above the event's fingerprint."""


class Marker(NamedTuple):
    """Marker item of an applied event: its fingerprint (0 if unknown) and its expiry (epoch s)."""

    fingerprint: int
    expires_at: int


class Applied(NamedTuple):
    """Result of `ViewState.apply` for the events that were not duplicates.

    `fingerprints` are those of `fresh`. `too_late`: older than every window. `erased`: occurred before the entity's
    erasure. `unsettled`: `dedup_id` of fresh voids without effect, for lack of proof. `went_stale`: the item needs
    healing; also reported with duplicates, since the first writer may have crashed before reporting it.
    """

    fresh: Sequence[Event]
    fingerprints: Sequence[int] = ()
    too_late: Sequence[Event] = ()
    erased: Sequence[Event] = ()
    unsettled: Sequence[str] = ()
    went_stale: bool = False


class ViewState(msgspec.Struct):
    """State of one (view, entity). `apply` changes it, `values` reads it.

    `born` and `latest` are the moments (ms) of the first and the last event of the current history; `expired` is the
    last moment of an earlier, expired history. `since` is the wall clock (s) of the first commit, 0 if unknown.
    `filled`: events from before the view was declared are included. `erased_at`: tombstone (ms), earlier events are
    never applied again. While an item is healed, `delta` holds the events after version `healing_from`.
    """

    plan: ViewPlan
    base: Segment
    born: int | None = None
    latest: int = 0
    ring: dict[int, int] = {}
    markers: bool = False
    filled: bool = False
    since: int | None = None
    erased_at: int | None = None
    expired: int | None = None
    delta: Segment | None = None
    healing_from: int | None = None

    @classmethod
    def new(cls, view: FeatureView) -> ViewState:
        """Empty state."""
        plan = plan_of(view)
        return cls(plan, Segment(plan), markers=view.entity.hot)

    # Applying events

    def apply(
        self,
        events: Iterable[Event],
        now_ms: int,
        horizon_ms: int,
        markers: Mapping[str, Marker] | None = None,
    ) -> Applied:
        """Apply events.

        An id applied within the last `horizon_ms` (wall clock) is a duplicate. Before the ring overflows,
        `self.markers` is set: then the caller must commit a marker item for each new event in the same transaction.
        `markers` are the existing marker items of the ids in `doubtful`.
        """
        self._forget(now_ms - horizon_ms)
        known = _living(markers, now_ms) if markers else {}
        fresh: dict[int, Event] = {}
        too_late: list[Event] = []
        erased: list[Event] = []
        duplicate = False
        reached = self.plan.oldest(self.fold_horizon)
        for event in events:
            if (key := id_hash(event.dedup_id)) in self.ring:
                duplicate = True
                continue
            if self.erased_at is not None and event.occurred_at < self.erased_at:
                erased.append(event)
            elif reached is not None and event.occurred_at < reached and event.voided_at is None:
                if event.dedup_id not in known:
                    too_late.append(event)
            else:
                fresh.setdefault(key, event)  # the first copy counts, offline too
        if len(self.ring) + len(fresh) > RING_IDS:
            self.markers = True
        rows = [self.plan.row(event) for event in fresh.values()]
        prints = [self.plan.fingerprint(row) for row in rows]
        was_stale = self.stale
        self.base.folded |= bool(too_late)
        if self.since is None and fresh:
            self.since = now_ms // SECOND
        resolve = partial(self._resolve, known, now_ms - horizon_ms)
        unsettled = self._take_in(list(fresh.values()), rows, resolve)
        if not self.markers:
            second = now_ms // SECOND << STAMP
            self.ring.update(
                (key, second | fingerprint) for key, fingerprint in zip(fresh, prints, strict=True)
            )
        went_stale = self.stale and (duplicate or not was_stale)
        return Applied(list(fresh.values()), prints, too_late, erased, unsettled, went_stale)

    def doubtful(self, events: Iterable[Event]) -> list[str]:
        """Ids whose marker items `apply` needs: of events that voids name, and of events older than every window."""
        if not self.markers:
            return []
        reached = self.plan.oldest(self.fold_horizon)
        named = {event.id for event in events if event.voided_at is not None}
        late = {event.dedup_id for event in events if reached is not None and event.occurred_at < reached}
        return sorted(named | late)

    def replay(
        self,
        events: Iterable[Event],
        applied_at: int = 0,
        held: Mapping[str, Event] | None = None,
        unsettled: Sequence[str] = (),
    ) -> None:
        """Apply events that are known to be new, from the commit log, without deduplication.

        `applied_at`: wall clock (ms). `held`: events applied before, by id. `unsettled`: voids that the log marks as
        such.
        """
        kept = [event for event in events if event.occurred_at >= (self.erased_at or 0)]
        before = held or {}
        if self.since is None:
            self.since = applied_at // SECOND

        def resolve(void: Event) -> VoidEvidence:
            if void.dedup_id in unsettled:
                return VoidEvidence.UNPROVED
            return VoidEvidence.COUNTED if void.id in before else VoidEvidence.NEVER_APPLIED

        counted = [before.get(event.id, event) if event.voided_at is not None else event for event in kept]
        self._take_in(kept, [self.plan.row(event) for event in counted], resolve)

    def erase(self, at: int) -> None:
        """Delete everything except applied ids; events before `at` (ms) are excluded for good."""
        self.base, self.delta, self.healing_from = Segment(self.plan), None, None
        self.born, self.latest, self.expired = None, 0, None
        self.erased_at = at if self.erased_at is None else max(self.erased_at, at)

    def _forget(self, horizon: int) -> None:
        oldest = horizon // SECOND << STAMP
        self.ring = {key: stamp for key, stamp in self.ring.items() if stamp >= oldest}

    def _take_in(self, events: Sequence[Event], rows: Sequence[Row], resolve: Resolve) -> list[str]:
        """Insert events with their rows; returns the `dedup_id` of unsettled voids."""
        if not events:
            return []
        if any(event.voided_at is not None for event in events):
            voids = [pair for pair in zip(events, rows, strict=True) if pair[0].voided_at is not None]
            rows = [row for event, row in zip(events, rows, strict=True) if event.voided_at is None]
        else:
            voids = []
        counting = self._counting(rows)
        if self.delta is None:
            return self.base.insert(counting, voids, resolve)
        self._hand_over(self.delta, {row[1] for row in counting})
        self.delta.stale |= any(self.base.voids.may_concern(row[0]) for row in counting)
        return self.delta.insert(counting, voids, partial(self._resolve_while_healing, resolve))

    # Deduplication

    def _resolve(self, markers: Mapping[str, Marker], horizon: int, void: Event) -> VoidEvidence:
        """Evidence on a void's event; ids applied after `horizon` (ms, wall clock) are known."""
        stamp, marker = self.ring.get(id_hash(void.id)), markers.get(void.id)
        if stamp is None and marker is None:
            known = self._knows_all_ids(horizon)
            return VoidEvidence.NEVER_APPLIED if known else VoidEvidence.UNPROVED
        kept = stamp & (1 << STAMP) - 1 if stamp is not None else marker.fingerprint if marker else 0
        equal = kept == self.plan.fingerprint(self.plan.row(void))
        return VoidEvidence.COUNTED if kept and equal else VoidEvidence.UNPROVED

    def _knows_all_ids(self, horizon: int) -> bool:
        """True if ids applied before `horizon` (ms) do not matter: there are none, or no window reaches them."""
        horizon += HOUR  # margin for writers' clocks
        reached = self.plan.oldest(self.fold_horizon)
        complete = not self.filled and (self.since or 0) * SECOND > horizon
        return complete or (reached is not None and horizon + MAX_SKEW < reached)

    # Expiry

    def _counting(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows that belong to the current history; updates `born` and `latest`."""
        if not rows:
            return rows
        first, last, expiry = min(row[0] for row in rows), max(row[0] for row in rows), self.plan.expiry
        born, latest = (first, last) if self.born is None else (self.born, self.latest)
        joined = expiry is None or (
            self.expired is None and max(born - first, last - latest, last - first) <= expiry
        )
        if not joined:
            ordered = sorted(rows, key=moment)
            before = bisect_left(ordered, born, key=itemgetter(0)) if self.born is not None else 0
            # From the current history outwards, so that each row can extend it for the next.
            return self._split_at_gaps([*reversed(ordered[:before]), *ordered[before:]], expiry or 0)
        self.born, self.latest = min(born, first), max(latest, last)
        return rows

    def _split_at_gaps(self, rows: Iterable[Row], expiry: int) -> list[Row]:
        """The rows that join the current history; rows before it come first, latest first, then the others in order."""
        counting: list[Row] = []
        for row in rows:
            at = int(row[0])
            if self.born is None or at > self.latest + expiry:
                self._expire()
                counting.clear()
                self.born = at
            elif at < self.born - expiry:
                self.expired = max(self.expired or 0, at)
                self.base.folded = True
                if self.delta is not None:  # the rebuilt history may reach back to it
                    self.delta.stale |= self.plan.lifetime
                continue
            elif at < self.born:
                self.born = at
                self._continue_expired(expiry)
            self.latest = max(self.latest, at)
            counting.append(row)
        return counting

    def _continue_expired(self, expiry: int) -> None:
        """Become stale if an expired history counts again, and a window reaches it."""
        if self.expired is not None and self.born is not None and self.born - self.expired <= expiry:
            self.base.stale |= self.plan.lifetime
            self.expired = None

    def _expire(self) -> None:
        """Drop the current history, which expired."""
        if self.born is None:
            return
        self.expired = max(self.expired or 0, self.latest)
        for part in self.segments:
            part.clear()

    # Healing

    @property
    def segments(self) -> list[Segment]:
        """Segments with events: two while the item is healed."""
        return [self.base] if self.delta is None else [self.base, self.delta]

    @property
    def stale(self) -> bool:
        """True if an event may be miscounted or missing, so that the item needs healing from the archive."""
        return any(part.stale for part in self.segments)

    def begin_healing(self, n: int) -> None:
        """Collect later events in a delta, while the versions up to `n` are rebuilt."""
        self.healing_from = n
        self.delta = Segment(self.plan, watermark=self.base.watermark, folded=True)

    def recompute(self, events: Iterable[Event]) -> None:
        """Rebuild from exactly these events and voids; deduplication and tombstone are kept."""
        kept = [event for event in events if event.occurred_at >= (self.erased_at or 0)]
        voids = {event.id: event for event in kept if event.voided_at is not None}
        plain = [event for event in kept if event.voided_at is None]
        watermark = max((max(event.occurred_at, event.voided_at or 0) for event in kept), default=0)
        rows = [self.plan.row(event) for event in plain]
        voided = voids.keys() & {event.id for event in plain}
        for row in rows:
            if row[1] in voided:
                row[2:] = [None] * (len(row) - 2)
        self.base, self.delta, self.healing_from = Segment(self.plan, watermark), None, None
        self.born, self.latest, self.expired = None, 0, None
        waiting = [(void, self.plan.row(void)) for name, void in voids.items() if name not in voided]
        self.base.folded = bool(voided)
        self.base.readable_from = 1 + max((voids[name].voided_at or 0 for name in voided), default=-1)
        self.base.insert(self._counting(rows), waiting, lambda _: VoidEvidence.NEVER_APPLIED)

    def finish_healing(self, item: ViewState) -> None:
        """Merge the delta that the item collected while this state was rebuilt."""
        delta, expiry = item.delta, self.plan.expiry
        if delta is None or item.born is None:
            return
        if self.born is not None and expiry is not None and item.born > self.latest + expiry:
            self._expire()
            self.born = item.born
        self.born = item.born if self.born is None else min(self.born, item.born)
        self.latest = max(self.latest, item.latest)
        self.base.absorb(delta)
        if expiry is not None:  # an event that came meanwhile may close the gap
            self._continue_expired(expiry)

    def _hand_over(self, delta: Segment, arrived: set[str]) -> None:
        """Move voids that waited for these events to the delta, which receives the events."""
        for event_id in arrived & self.base.voids.waiting.keys():
            delta.voids.waiting[event_id] = self.base.voids.waiting.pop(event_id)

    def _resolve_while_healing(self, resolve: Resolve, void: Event) -> VoidEvidence:
        """Evidence while healing: a void of an event in the base makes the item stale again."""
        if self.base.holds_row(void.id) or resolve(void) is not VoidEvidence.NEVER_APPLIED:
            return VoidEvidence.UNPROVED
        return VoidEvidence.NEVER_APPLIED

    # Reading

    @property
    def fold_horizon(self) -> int:
        """Moment (ms) before which events may be folded."""
        return self.watermark - MAX_SKEW

    @property
    def watermark(self) -> int:
        """Latest moment (ms) of an event or void."""
        return max(part.watermark for part in self.segments)

    @property
    def exact_from(self) -> int:
        """First moment (ms) that can always be read exactly."""
        return max(part.exact_from for part in self.segments)

    def answers(self, q: int) -> bool:
        """True if moment `q` (ms) can be read exactly."""
        after_expired = self.expired is None or q > self.expired + (self.plan.expiry or 0)
        return after_expired and all(part.answers(q) for part in self.segments)

    def present(self, q: int) -> bool:
        """True if an event, voided or not, lies before `q` (ms), the last one within the view's expiry."""
        if self.born is None or self.born >= q or self.plan.expiry is None:
            return self.born is not None and self.born < q
        if self.latest < q:
            return self.latest >= q - self.plan.expiry
        raw = [row[0] for part in self.segments for row in part.head if row[0] < q]
        # Folded events end within the expiry of the first raw event, which is not before q.
        return not raw or max(raw) >= q - self.plan.expiry

    def overflows(self, q: int) -> bool:
        """True if a view of exact windows has more than `max_events` events at `q` (ms)."""
        return any(part.overflows(q) for part in self.segments)

    def values(self, q: int) -> list[float]:
        """All features of the view at `q` (ms), in the view's order. Events at or after `q` do not count."""
        return segment.values(self.segments if self.present(q) else [Segment(self.plan)], q)

    # Storing

    def encode(self) -> bytes:
        """State → item bytes; rare members come last, or are omitted."""
        base = self.base
        members = [
            CODEC,
            self.plan.view.version,
            self.born,
            *_contents(base),
            list(chain.from_iterable(self.ring.items())),
            MARKERS * self.markers | FOLDED * base.folded | STALE * base.stale | FILLED * self.filled,
            self.since,
        ]
        rare = [
            self.latest if self.latest != base.watermark else None,
            self.erased_at,
            self.expired,
            _unsettled(base),
            None
            if self.delta is None
            else [*_contents(self.delta), self.delta.stale, _unsettled(self.delta)],
            self.healing_from,
        ]
        return seal([*members, *rare] if any(member is not None for member in rare) else members)

    @classmethod
    def decode(cls, view: FeatureView, blob: bytes) -> ViewState:
        """Inverse of `encode`. Raises `CorruptItem` for any other bytes."""
        codec, members = unseal(view, blob)
        if codec < CODEC:
            return _of_codec_3(view, codec, members)
        born, watermark, head, singles, tiles, ring, flags, since, *rare = members
        latest, erased_at, expired, unsettled, delta, healing_from = rare or [None] * 6
        plan = plan_of(view)
        base = _segment(plan, [watermark, head, singles, tiles], flags, unsettled)
        return cls(
            plan,
            base,
            born,
            watermark if latest is None else latest,
            dict(zip(ring[::2], ring[1::2], strict=True)),
            markers=bool(flags & MARKERS),
            filled=bool(flags & FILLED),
            since=since,
            erased_at=erased_at,
            expired=expired,
            delta=delta and _segment(plan, delta[:4], FOLDED | STALE * delta[4], delta[5]),
            healing_from=healing_from,
        )


def _living(markers: Mapping[str, Marker], now_ms: int) -> Mapping[str, Marker]:
    """Markers with at least an hour to expiry, a margin for writers' clocks and DynamoDB's TTL deletion."""
    soon = (now_ms + HOUR) // SECOND
    return {event_id: marker for event_id, marker in markers.items() if marker.expires_at > soon}


def _contents(part: Segment) -> list[Any]:
    """Watermark, raw rows, single rows of tiles, tiles; row moments are stored relative to the watermark."""
    aggregations = part.plan.aggregations
    tiles = [
        [*tile, *(a.pack(p) for a, p in zip(aggregations, partials, strict=True))]
        for tile, partials in sorted(part.tiles.items())
    ]
    rows = part.head, sorted(part.singles.values(), key=moment)
    return [part.watermark, *([[part.watermark - row[0], *row[1:]] for row in of] for of in rows), tiles]


def _unsettled(part: Segment) -> list[Any] | None:
    """Voids (of raw events by position), `dropped` and `readable_from`; None if all are empty."""
    voids = part.voids
    if not (voids or part.readable_from) and voids.forgotten is None and part.dropped is None:
        return None
    positions = {row[1]: position for position, row in enumerate(part.head)} if voids.waiting else {}
    waiting = [[positions.get(event_id, event_id), at] for event_id, at in sorted(voids.waiting.items())]
    counted = sorted(voids.counted, key=lambda row: row[:3])
    return [list(chain.from_iterable(waiting)), counted, voids.forgotten, part.dropped, part.readable_from]


def _segment(plan: ViewPlan, contents: Sequence[Any], flags: int, unsettled: Sequence[Any] | None) -> Segment:
    watermark, head, singles, tiles = contents
    part = Segment(plan, watermark, [[watermark - row[0], *row[1:]] for row in head])
    part.folded, part.stale = bool(flags & FOLDED), bool(flags & STALE)
    if singles:
        rows = [[watermark - row[0], *row[1:]] for row in singles]
        part.singles = {_tile_of(part, row): row for row in rows}
    if tiles:
        partials = plan.unpacked([tile[2:] for tile in tiles])
        part.tiles = {(tile[0], tile[1]): held for tile, held in zip(tiles, partials, strict=True)}
    if unsettled is not None:
        waiting, counted, forgotten, part.dropped, part.readable_from = unsettled
        names = [part.head[ref][1] if isinstance(ref, int) else ref for ref in waiting[::2]]
        part.voids = Voids(dict(zip(names, waiting[1::2], strict=True)), counted, forgotten)
    return part


def _tile_of(part: Segment, row: Row) -> Tile:
    """The tile of a single row: the one into which it would be folded now."""
    tile = part.plan.tile_of(row[0], part.fold_horizon)
    assert tile is not None
    return tile


def _of_codec_3(view: FeatureView, codec: int, members: Sequence[Any]) -> ViewState:
    """State from codec 2 or 3, without fingerprints."""
    born, watermark, head, singles, tiles, ring, flags, *rare = members
    plan = plan_of(view)
    if codec == 2 and len(head) >= segment.HEAD_EVENTS:
        flags |= FOLDED
    base = _segment(plan, [watermark, head, singles, tiles], flags, None)
    voids, erased_at = rare or ([], None)
    raw = {row[1] for row in base.head}
    base.voids.waiting = {void[2]: void[0] for void in voids if void[2] in raw}
    base.stale |= any(void[2] not in raw for void in voids)
    return ViewState(
        plan,
        base,
        born,
        base.head[-1][0] if base.head else watermark,
        {key: second << STAMP for key, second in zip(ring[::2], ring[1::2], strict=True)},
        markers=bool(flags & MARKERS),
        filled=bool(flags & FILLED),
        since=0,
        erased_at=erased_at,
    )
