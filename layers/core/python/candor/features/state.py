"""The state of one (view, entity): what the online store keeps, how events enter it and features leave it.

A void names an event and takes back what that event counted (`voids.py`). What cannot be proved equal to what was counted
is not touched: the state is `stale` until it is healed from the archive (ADR 0029).
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
from candor.features.plan import Plan, Row, Tile, plan_of
from candor.features.segment import Segment
from candor.features.views import FeatureView
from candor.features.voids import Evidence, Resolve, Voids

RING_IDS = size.RING_IDS

MARKERS, FOLDED, STALE, FILLED = 1, 2, 4, 8
"""Flags of an item."""

STAMP = 32
"""A ring entry holds the second when its id was applied, so many bits above the fingerprint of the event."""


class Marker(NamedTuple):
    """Marker item of an applied event: its fingerprint (0 if it was not kept) and the second when it expires."""

    fingerprint: int
    expires_at: int


class Applied(NamedTuple):
    """Outcome of `ViewState.apply` for the events that were not duplicates.

    `fingerprints` belong to `fresh`. `too_late`: beyond every window. `erased`: they occurred before the entity was erased.
    `unsettled`: `dedup_id` of fresh voids that took nothing back for want of proof. `went_stale`: the item is to be healed; a duplicate
    says so again, since whoever applied the event first may not have come to say it.
    """

    fresh: Sequence[Event]
    fingerprints: Sequence[int] = ()
    too_late: Sequence[Event] = ()
    erased: Sequence[Event] = ()
    unsettled: Sequence[str] = ()
    went_stale: bool = False


class ViewState(msgspec.Struct):
    """State of one (view, entity). `apply` changes it, `values` reads it.

    `born` and `latest` are the moments (ms) of the first and the last event of the history that counts; `expired` is the last
    moment of a history before it. `since` is the wall clock (s) of the first commit, 0 if it is not known. `filled`: what happened
    before the view was declared is in. `erased_at`: a tombstone (ms), nothing that occurred earlier is ever taken in again. While an
    item is healed, `delta` takes in what is new after version `healing_from`.
    """

    plan: Plan
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
        """State of an entity never seen."""
        plan = plan_of(view)
        return cls(plan, Segment(plan), markers=view.entity.hot)

    # What comes in

    def apply(
        self,
        events: Iterable[Event],
        now_ms: int,
        horizon_ms: int,
        markers: Mapping[str, Marker] | None = None,
    ) -> Applied:
        """Take in events.

        An id applied within the last `horizon_ms` (wall clock) is a duplicate. When the ring would overflow, `self.markers`
        turns on: then the caller must commit a marker item for each new event in the same transaction. `markers` are the marker
        items of the ids in `doubtful`, as far as they exist.
        """
        self._forget(now_ms - horizon_ms)
        known = _living(markers, now_ms) if markers else {}
        fresh: dict[int, Event] = {}
        too_late: list[Event] = []
        erased: list[Event] = []
        duplicate = False
        reached = self.plan.oldest(self.line)
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
                fresh.setdefault(key, event)  # the copy that arrived first counts, offline too
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
            self.ring.update((key, second | found) for key, found in zip(fresh, prints, strict=True))
        went_stale = self.stale and (duplicate or not was_stale)
        return Applied(list(fresh.values()), prints, too_late, erased, unsettled, went_stale)

    def doubtful(self, events: Iterable[Event]) -> list[str]:
        """Ids whose marker items `apply` asks for: of events that voids name, and of those beyond every window."""
        if not self.markers:
            return []
        reached = self.plan.oldest(self.line)
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
        """Take in events that are known to be new, as the log of commits knows them: nothing is deduplicated.

        `applied_at`: wall clock (ms). `held`: the events that were taken in before, by id; `unsettled`: the voids that the log names
        so.
        """
        kept = [event for event in events if event.occurred_at >= (self.erased_at or 0)]
        before = held or {}
        if self.since is None:
            self.since = applied_at // SECOND

        def resolve(void: Event) -> Evidence:
            if void.dedup_id in unsettled:
                return Evidence.UNPROVED
            return Evidence.COUNTED if void.id in before else Evidence.NEVER_APPLIED

        counted = [before.get(event.id, event) if event.voided_at is not None else event for event in kept]
        self._take_in(kept, [self.plan.row(event) for event in counted], resolve)

    def erase(self, at: int) -> None:
        """Forget everything but which ids were applied; what occurred before `at` (ms) stays out for good."""
        self.base, self.delta, self.healing_from = Segment(self.plan), None, None
        self.born, self.latest, self.expired = None, 0, None
        self.erased_at = at if self.erased_at is None else max(self.erased_at, at)

    def _forget(self, horizon: int) -> None:
        oldest = horizon // SECOND << STAMP
        self.ring = {key: stamp for key, stamp in self.ring.items() if stamp >= oldest}

    def _take_in(self, events: Sequence[Event], rows: Sequence[Row], resolve: Resolve) -> list[str]:
        """Insert events with their rows; the `dedup_id` of voids that could not be settled."""
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

    def _resolve(self, markers: Mapping[str, Marker], horizon: int, void: Event) -> Evidence:
        """Evidence on the event that a void names; ids applied after `horizon` (ms, wall clock) are known."""
        stamp, marker = self.ring.get(id_hash(void.id)), markers.get(void.id)
        if stamp is None and marker is None:
            known = self._knows_all_ids(horizon)
            return Evidence.NEVER_APPLIED if known else Evidence.UNPROVED
        kept = stamp & (1 << STAMP) - 1 if stamp is not None else marker.fingerprint if marker else 0
        equal = kept == self.plan.fingerprint(self.plan.row(void))
        return Evidence.COUNTED if kept and equal else Evidence.UNPROVED

    def _knows_all_ids(self, horizon: int) -> bool:
        """True if ids that were applied before `horizon` (ms) do not matter: there are none, or no window reaches them."""
        horizon += HOUR  # clocks of several writers
        reached = self.plan.oldest(self.line)
        complete = not self.filled and (self.since or 0) * SECOND > horizon
        return complete or (reached is not None and horizon + MAX_SKEW < reached)

    # Expiry

    def _counting(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows that belong to the history that counts; its ends are brought up to date."""
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
            # From what counts now outwards, so that each row can join what the one before it joined.
            return self._split_at_gaps([*reversed(ordered[:before]), *ordered[before:]], expiry or 0)
        self.born, self.latest = min(born, first), max(latest, last)
        return rows

    def _split_at_gaps(self, rows: Iterable[Row], expiry: int) -> list[Row]:
        """The rows that join what counts now; those before it come first, latest first, then the others in order."""
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
                if self.delta is not None:  # what is computed anew may reach back to it
                    self.delta.stale |= self.plan.lifetime
                continue
            elif at < self.born:
                if self.expired is not None and at - self.expired <= expiry:
                    # What an expired history held counts again, where a window reaches it.
                    self.base.stale |= self.plan.lifetime
                    self.expired = None
                self.born = at
            self.latest = max(self.latest, at)
            counting.append(row)
        return counting

    def _expire(self) -> None:
        """Drop a history that nothing continued in time."""
        if self.born is None:
            return
        self.expired = max(self.expired or 0, self.latest)
        for part in self.segments:
            part.clear()

    # Healing

    @property
    def segments(self) -> list[Segment]:
        """Everything that holds events: more than one while the item is healed."""
        return [self.base] if self.delta is None else [self.base, self.delta]

    @property
    def stale(self) -> bool:
        """True if some event could not be taken back, or may be missing: the item is to be healed from the archive."""
        return any(part.stale for part in self.segments)

    def begin_healing(self, n: int) -> None:
        """Keep apart what comes in from now on: what the versions up to `n` hold is computed anew meanwhile."""
        self.healing_from = n
        self.delta = Segment(self.plan, watermark=self.base.watermark, folded=True)

    def recompute(self, events: Iterable[Event]) -> None:
        """Hold exactly these events and voids, and of the item before only its deduplication and tombstone."""
        kept = [event for event in events if event.occurred_at >= (self.erased_at or 0)]
        voids = {event.id: event for event in kept if event.voided_at is not None}
        plain = [event for event in kept if event.voided_at is None]
        watermark = max((max(event.occurred_at, event.voided_at or 0) for event in kept), default=0)
        rows = [self.plan.row(event) for event in plain]
        taken_back = voids.keys() & {event.id for event in plain}
        for row in rows:
            if row[1] in taken_back:
                row[2:] = [None] * (len(row) - 2)
        self.base, self.delta, self.healing_from = Segment(self.plan, watermark), None, None
        self.born, self.latest, self.expired = None, 0, None
        waiting = [(void, self.plan.row(void)) for name, void in voids.items() if name not in taken_back]
        self.base.folded = bool(taken_back)
        self.base.readable_from = 1 + max((voids[name].voided_at or 0 for name in taken_back), default=-1)
        self.base.insert(self._counting(rows), waiting, lambda _: Evidence.NEVER_APPLIED)

    def finish_healing(self, item: ViewState) -> None:
        """Take in what came to the item while this state was computed anew."""
        delta, expiry = item.delta, self.plan.expiry
        if delta is None or item.born is None:
            return
        if self.born is not None and expiry is not None and item.born > self.latest + expiry:
            self._expire()
            self.born = item.born
        self.born = item.born if self.born is None else min(self.born, item.born)
        self.latest = max(self.latest, item.latest)
        self.base.absorb(delta)

    def _hand_over(self, delta: Segment, arrived: set[str]) -> None:
        """Give voids that waited for these events to the part that takes the events in."""
        for event_id in arrived & self.base.voids.waiting.keys():
            delta.voids.waiting[event_id] = self.base.voids.waiting.pop(event_id)

    def _resolve_while_healing(self, resolve: Resolve, void: Event) -> Evidence:
        """Nothing is taken back from what is being computed anew: such a void makes the item stale once more."""
        if self.base.holds_row(void.id) or resolve(void) is not Evidence.NEVER_APPLIED:
            return Evidence.UNPROVED
        return Evidence.NEVER_APPLIED

    # Reading

    @property
    def line(self) -> int:
        """Everything before this moment (ms) may be folded."""
        return self.watermark - MAX_SKEW

    @property
    def watermark(self) -> int:
        """The latest moment (ms) of an event or void."""
        return max(part.watermark for part in self.segments)

    @property
    def exact_from(self) -> int:
        """The first moment (ms) that can be read exactly, whatever was folded."""
        return max(part.exact_from for part in self.segments)

    def answers(self, q: int) -> bool:
        """True if moment `q` (ms) can be read exactly."""
        after_expired = self.expired is None or q > self.expired + (self.plan.expiry or 0)
        return after_expired and all(part.answers(q) for part in self.segments)

    def present(self, q: int) -> bool:
        """True if an event, voided or not, lies before `q` (ms), and the last of them no further back than the view's expiry."""
        if self.born is None or self.born >= q or self.plan.expiry is None:
            return self.born is not None and self.born < q
        if self.latest < q:
            return self.latest >= q - self.plan.expiry
        raw = [row[0] for part in self.segments for row in part.head if row[0] < q]
        # What is folded ends within the expiry of the first raw event, and that is not before q.
        return not raw or max(raw) >= q - self.plan.expiry

    def overflows(self, q: int) -> bool:
        """True if a view of exact windows has more events at `q` (ms) than it declares."""
        return any(part.overflows(q) for part in self.segments)

    def values(self, q: int) -> list[float]:
        """All features of the view at `q` (ms), in the view's order. Events at or after `q` do not count."""
        return segment.values(self.segments if self.present(q) else [Segment(self.plan)], q)

    # Storing

    def encode(self) -> bytes:
        """The item's bytes. What is rare stands last or not at all."""
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
        """Inverse of `encode`. Raises `CorruptItem` for anything that `encode` did not write."""
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
    """Markers that every writer's clock and DynamoDB's sweep leave alone for another hour."""
    soon = (now_ms + HOUR) // SECOND
    return {event_id: marker for event_id, marker in markers.items() if marker.expires_at > soon}


def _contents(part: Segment) -> list[Any]:
    """Watermark, raw rows, rows alone in their tile, tiles; moments of rows count back from the watermark."""
    aggregations = part.plan.aggregations
    tiles = [
        [*tile, *(a.pack(p) for a, p in zip(aggregations, partials, strict=True))]
        for tile, partials in sorted(part.tiles.items())
    ]
    rows = part.head, sorted(part.singles.values(), key=moment)
    return [part.watermark, *([[part.watermark - row[0], *row[1:]] for row in of] for of in rows), tiles]


def _unsettled(part: Segment) -> list[Any] | None:
    """Voids, those of raw events by position, and what a view of exact windows dropped."""
    voids = part.voids
    if not (voids or part.readable_from) and voids.forgotten is None and part.dropped is None:
        return None
    positions = {row[1]: position for position, row in enumerate(part.head)} if voids.waiting else {}
    waiting = [[positions.get(event_id, event_id), at] for event_id, at in sorted(voids.waiting.items())]
    counted = sorted(voids.counted, key=lambda row: row[:3])
    return [list(chain.from_iterable(waiting)), counted, voids.forgotten, part.dropped, part.readable_from]


def _segment(plan: Plan, contents: Sequence[Any], flags: int, unsettled: Sequence[Any] | None) -> Segment:
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
    """The tile of a row that is kept: the one it would be folded into now."""
    tile = part.plan.tile_of(row[0], part.line)
    assert tile is not None
    return tile


def _of_codec_3(view: FeatureView, codec: int, members: Sequence[Any]) -> ViewState:
    """The state of an item that was written before events had fingerprints."""
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
