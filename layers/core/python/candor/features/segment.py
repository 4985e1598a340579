"""Events of one (view, entity) as raw rows, tiles and voids, and their feature values at a moment.

The newest events stay raw, so the right edge of every window is exact. Older ones are folded into tiles on the hop
ladder. A tile is as coarse as the windows that still reach it allow, so every event is stored once
and every left edge falls on a tile's edge. The folded form is a function of the *set* of events: neither their
order nor their batches matter (ADR 0002).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec

from candor.contracts import Event
from candor.features import size
from candor.features.aggregations import moment
from candor.features.event_types import MAX_SKEW
from candor.features.plan import LIFETIME_TILE, Row, Tile, ViewPlan
from candor.features.voids import Resolve, VoidEvidence, Voids

HEAD_EVENTS = 32
"""Number of newest events that always stay raw; up to `MOST_RAW` do while a moment before them can be read."""

MOST_RAW = size.MOST_RAW


class Segment(msgspec.Struct):
    """Raw rows, tiles and voids of a set of events.

    `watermark`: the latest moment (ms) of an event or void. `folded`: events left the head, or were excluded, so that
    moments before the fold horizon cannot be read any more. `dropped`: latest moment of an event that a view of exact
    windows had no room for. `readable_from`: events voided before this moment (ms) were excluded when the segment was
    rebuilt.
    """

    plan: ViewPlan
    watermark: int = 0
    head: list[Row] = []
    singles: dict[Tile, Row] = {}
    tiles: dict[Tile, Sequence[Any]] = {}
    folded: bool = False
    stale: bool = False
    voids: Voids = msgspec.field(default_factory=Voids)
    dropped: int | None = None
    readable_from: int = 0

    @property
    def fold_horizon(self) -> int:
        """Moment (ms) before which events may be folded."""
        return self.watermark - MAX_SKEW

    def insert(self, rows: Sequence[Row], voids: Sequence[tuple[Event, Row]], resolve: Resolve) -> list[str]:
        """Insert rows of events, and voids with their rows; returns the `dedup_id` of unsettled voids."""
        moments = [row[0] for row in rows]
        self.watermark = max([self.watermark, *moments, *(void.voided_at or 0 for void, _ in voids)])
        if self.voids.forgotten is not None:
            self.stale |= any(self.voids.may_concern(row[0]) for row in rows)
        self.head += rows
        self.head.sort(key=moment)
        unsettled = [void.dedup_id for void, row in voids if not self._take_void(void, row, resolve)]
        self.stale |= bool(unsettled)
        self._bring_forward()
        return unsettled

    def absorb(self, other: Segment) -> None:
        """Merge another segment of the same entity into this one."""
        self.watermark = other.watermark = max(self.watermark, other.watermark)
        self.folded = True
        self.stale |= other.stale
        self.dropped = max(filter(None, (self.dropped, other.dropped)), default=None)
        self.readable_from = max(self.readable_from, other.readable_from)
        self.voids.absorb(other.voids)
        self.coarsen()
        other.coarsen()
        for tile, partials in other.tiles.items():
            self._add(tile, partials)
        self._fold_rows(other.singles.values())
        self.head = sorted([*self.head, *other.head], key=moment)
        self._bring_forward()

    def clear(self) -> None:
        """Drop all events; voids of events that have not arrived stay."""
        raw = {row[1] for row in self.head}
        self.voids.waiting = {name: at for name, at in self.voids.waiting.items() if name not in raw}
        self.voids.counted = []
        self.head, self.singles, self.tiles = [], {}, {}
        self.folded = True

    def holds_row(self, event_id: str) -> bool:
        """True if the event is stored as a row: raw, or alone in its tile."""
        return any(row[1] == event_id for row in chain(self.head, self.singles.values()))

    def _bring_forward(self) -> None:
        """Fold events and settle voids that every readable moment lies after."""
        if self.voids:
            self._cancel()
        self._fold()
        if self.voids:
            self._settle()

    # Voids

    def _take_void(self, void: Event, row: Row, resolve: Resolve) -> bool:
        """Record a void; False if there is no proof of what its event counted."""
        assert void.voided_at is not None
        if self.voids.names(void.id):
            return True
        single = next((kept for kept in self.singles.values() if kept[1] == void.id), None)
        if single is not None:
            self.voids.counted.append([void.voided_at, *single])
            return True
        evidence = VoidEvidence.NEVER_APPLIED if self.holds_row(void.id) else resolve(void)
        if evidence is VoidEvidence.COUNTED:
            self.voids.counted.append([void.voided_at, *row])
        else:  # without proof, its event may still arrive, and must not count then
            self.voids.waiting[void.id] = void.voided_at
        return evidence is not VoidEvidence.UNPROVED

    def _cancel(self) -> None:
        """Apply voids of raw events that every readable moment lies after: the row stays, with empty values."""
        for row in self.head:
            voided_at = self.voids.waiting.get(row[1])
            if voided_at is not None and voided_at < self.fold_horizon:
                row[2:] = [None] * (len(row) - 2)
                del self.voids.waiting[row[1]]
                self.folded = True

    def _settle(self) -> None:
        """Remove counted events from their tiles once no readable moment needs them; drop voids without an event."""
        for row in self.voids.counted:
            self.stale |= not self._gives_back(row[1:])
        for row in self.voids.ripe(self.fold_horizon):
            self._remove(row[1:])
            self.voids.counted.remove(row)
            self.folded = True
        if self.voids.waiting:
            self.voids.trim({row[1] for row in self.head}, self.plan.oldest(self.fold_horizon))

    def _gives_back(self, row: Row) -> bool:
        tile = self.plan.tile_of(row[0], self.fold_horizon)
        single = self.singles.get(tile) if tile else None
        return tile is None or (single is not None and single[1] == row[1]) or self.plan.gives_back(row)

    def _remove(self, row: Row) -> None:
        tile = self.plan.tile_of(row[0], self.fold_horizon)
        single = self.singles.get(tile) if tile else None
        if tile is None:
            return
        if single is not None and single[1] == row[1]:
            del self.singles[tile]
        elif tile in self.tiles:
            self.tiles[tile] = self.plan.without_row(self.tiles[tile], row)

    # Folding

    def _fold(self) -> None:
        kept = HEAD_EVENTS + (self.plan.max_events or 0)
        surplus = max(len(self.head) - kept, 0)
        folded = max(len(self.head) - max(MOST_RAW, kept), 0)
        while folded < surplus and self.head[folded][0] < self.fold_horizon:
            folded += 1
        leaving = self.head[:folded]
        del self.head[:folded]
        self.folded |= folded > 0
        if self.plan.max_events is not None:
            self._drop(leaving)
            return
        if self.voids.waiting:
            self._keep_voided(leaving)
        self._fold_rows(leaving)
        self.coarsen()

    def _drop(self, leaving: Sequence[Row]) -> None:
        """Drop rows of a view of exact windows, which has no tiles, when they leave the head or all windows."""
        if leaving:
            self.dropped = max(self.dropped or 0, leaving[-1][0])
        reached = self.plan.oldest(self.fold_horizon)
        assert reached is not None
        before = bisect_left(self.head, reached, key=itemgetter(0))
        self.folded |= before > 0
        del self.head[:before]

    def _keep_voided(self, leaving: Iterable[Row]) -> None:
        """Copy rows that leave the head while their void is waiting."""
        for row in leaving:
            voided_at = self.voids.waiting.pop(row[1], None)
            if voided_at is not None:
                self.voids.counted.append([voided_at, *row])

    def _fold_rows(self, rows: Iterable[Row]) -> None:
        by_tile: dict[Tile, list[Row]] = defaultdict(list)
        fold_horizon = self.fold_horizon
        for row in rows:
            tile = self.plan.tile_of(row[0], fold_horizon)
            if tile is not None and row.count(None) < len(row) - 2:
                by_tile[tile].append(row)
        for tile, added in by_tile.items():
            if tile in self.singles:
                added.append(self.singles.pop(tile))
            if len(added) == 1 and self.plan.keeps_rows and tile not in self.tiles:
                self.singles[tile] = added[0]
            else:
                self.tiles[tile] = self.plan.with_rows(self.tiles.get(tile, self.plan.empty), added)

    def coarsen(self) -> None:
        """Merge tiles to the length that the fold horizon allows."""
        self._fold_rows([self.singles.pop(tile) for tile in self._outgrown(self.singles)])
        for tile in self._outgrown(self.tiles):
            partials = self.tiles.pop(tile)
            target = self.plan.tile_of(tile[0], self.fold_horizon)
            if target is not None:
                self._add(target, partials)

    def _outgrown(self, tiles: Iterable[Tile]) -> list[Tile]:
        """Tiles finer than any window needs."""
        expiry = {length: self.fold_horizon - reach - length for length, reach in self.plan.levels}
        return [tile for tile in tiles if tile != LIFETIME_TILE and tile[0] <= expiry[tile[1]]]

    def _add(self, tile: Tile, partials: Sequence[Any]) -> None:
        """Merge partials into a tile."""
        if tile in self.tiles:
            partials = self.plan.merged(self.tiles[tile], partials)
        elif tile in self.singles:
            partials = self.plan.with_row(partials, self.singles.pop(tile))
        self.tiles[tile] = partials

    # Reading

    def answers(self, q: int) -> bool:
        """True if moment `q` (ms) can be read exactly."""
        return not self.folded or q >= self.exact_from

    @property
    def exact_from(self) -> int:
        """First moment (ms) that can be read exactly after folding: the fold horizon, or later if the head was full."""
        first = max(self.fold_horizon, self.readable_from)
        if len(self.head) >= MOST_RAW + (self.plan.max_events or 0):
            first = max(first, int(self.head[0][0]) + 1)
        return max(first, self.voids.exact_from)

    def overflows(self, q: int) -> bool:
        """True if a view of exact windows has more than `max_events` events at `q` (ms), stored or dropped."""
        if self.plan.max_events is None:
            return False
        first = q - self.plan.longest
        return (self.dropped is not None and self.dropped >= first) or self.events_within(first, q) > (
            self.plan.max_events
        )

    def events_within(self, first: int, end: int) -> int:
        """Number of raw events, voided ones included, with `first` ≤ occurred_at < `end` (ms)."""
        key = itemgetter(0)
        return bisect_left(self.head, end, key=key) - bisect_left(self.head, first, key=key)

    def rows_at(self, q: int) -> tuple[list[Row], list[Row]]:
        """Rows that count at `q`, and voided rows that tiles still include."""
        rows = [*self.singles.values(), *(row for row in self.head if row[0] < q)]
        return self._less_voided(rows, q) if self.voids else (rows, [])

    def _less_voided(self, rows: Sequence[Row], q: int) -> tuple[list[Row], list[Row]]:
        """Rows without those voided before `q`, and voided rows that tiles still include."""
        voided = self.voids.before(q)
        raw = {row[1] for row in rows}
        removed = [row[1:] for row in self.voids.counted if row[0] < q and row[2] not in raw]
        return [row for row in rows if row[1] not in voided], removed


def values(segments: Sequence[Segment], q: int) -> list[float]:
    """All features of an entity at `q` (ms), from all segments with its events."""
    plan = segments[0].plan
    return plan.finalized(_by_window(plan, segments, q), q)


def _by_window(plan: ViewPlan, segments: Sequence[Segment], q: int) -> Iterator[Sequence[Any]]:
    """Partials of every window, shortest first, each extending the shorter one; delayed windows come last."""
    rows, removed = (
        sorted(chain(*parts), key=moment) for parts in zip(*(s.rows_at(q) for s in segments), strict=True)
    )
    held = ((tile[0], partials) for segment in segments for tile, partials in segment.tiles.items())
    tiles = sorted(held, key=itemgetter(0))
    delayed = [
        _combined(
            plan, *(_between(ordered, window.start(q), window.end(q)) for ordered in (rows, tiles, removed))
        )
        for window in plan.delayed
    ]
    running: Sequence[Any] = plan.empty
    for window in plan.windows:
        start = window.start(q)
        running = plan.with_rows(running, _taken(rows, start))
        running = plan.all_merged([running, *(partials for _, partials in _taken(tiles, start))])
        for row in _taken(removed, start):
            running = plan.without_row(running, row)
        yield running
    yield from delayed


def _combined(plan: ViewPlan, rows: list[Row], tiles: list[Any], removed: list[Row]) -> Sequence[Any]:
    """Partials of a single window."""
    combined = plan.all_merged([plan.with_rows(plan.empty, rows), *(partials for _, partials in tiles)])
    for row in removed:
        combined = plan.without_row(combined, row)
    return combined


def _between(ordered: list[Any], start: int | None, end: int) -> list[Any]:
    """Slice of a list ordered by moment, with `start` ≤ moment < `end`."""
    first = 0 if start is None else bisect_left(ordered, start, key=itemgetter(0))
    return ordered[first : bisect_left(ordered, end, key=itemgetter(0))]


def _taken(ordered: list[Any], start: int | None) -> list[Any]:
    """Remove and return the end of a list ordered by moment, from `start` on; all of it for None."""
    first = 0 if start is None else bisect_left(ordered, start, key=itemgetter(0))
    taken = ordered[first:]
    del ordered[first:]
    return taken
