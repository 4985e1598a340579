"""The state of one (view, entity): what the online store keeps and how events enter and features leave it.

The newest events stay raw, so the right edge of every window is exact. Older ones are folded into tiles on the hop
ladder. A tile is as coarse as the windows that can still reach it allow, so every event is held once
and every left edge falls on a tile's edge. The folded state is a function of the *set* of applied events: neither their
order nor their batches matter (ADR 0002).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from candor.clock import SECOND
from candor.contracts import Event
from candor.errors import CorruptItem
from candor.features.aggregations import Aggregation, moment
from candor.features.views import MAX_SKEW, FeatureView

HEAD_EVENTS = 32
"""So many newest events always stay raw."""

RING_IDS = 256
"""Recent event ids kept inside the item; beyond, deduplication moves to marker items."""

ROWS_FROM = 8
"""A view of so many aggregations keeps the event of a tile that holds one only: that is cheaper than its partials."""

CODEC = 2
LIFETIME_TILE = (0, 0)

Row = list[Any]
"""One raw event: [occurred_at, event id, prepared value of every source]."""

Tile = tuple[int, int]
"""(start ms, length ms); `LIFETIME_TILE` holds all that only the lifetime window reaches."""


class Plan:
    """What a view's declaration means for its state; compiled once."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        unique: dict[str, Aggregation] = {}
        places = []
        for feature in view.features:
            spec = repr(feature.aggregation.spec())
            unique.setdefault(spec, feature.aggregation)
            places.append((list(unique).index(spec), feature.window))
        self.aggregations = tuple(unique.values())
        sources = {aggregation.source: aggregation for aggregation in self.aggregations}
        columns = [list(sources).index(a.source) for a in self.aggregations]
        self.updates = tuple((a.update, column) for a, column in zip(self.aggregations, columns, strict=True))
        filters = {repr(a.where and a.where.spec()): a.where for a in sources.values()}
        takers = {a.taken: a.take for a in sources.values()}
        self.filters = tuple(where.matches if where else None for where in filters.values())
        self.takers = tuple(takers.values())
        self.sources = tuple(
            (list(filters).index(repr(a.where and a.where.spec())), list(takers).index(a.taken))
            for a in sources.values()
        )
        windows = sorted({window for _, window in places}, key=lambda w: w.length or 2**62)
        self.windows = tuple(windows)
        self.outputs = tuple((place, windows.index(window)) for place, window in places)
        finite = [(w.hop, w.length + w.hop) for w in windows if w.length is not None and w.hop is not None]
        self.levels = tuple(
            (hop, max(reach for step, reach in finite if step <= hop))
            for hop in sorted({hop for hop, _ in finite})
        )
        self.reach = dict(self.levels)
        self.keeps_rows = len(self.aggregations) >= ROWS_FROM
        self.lifetime = any(window.length is None for window in windows)
        used = frozenset[str]().union(*(aggregation.fields for aggregation in self.aggregations))
        self.undeclared = {kind.name: used - kind.plain_fields for kind in view.events}

    def row(self, event: Event) -> Row:
        """The event as the head keeps it. Data that its type does not declare are carried, not used."""
        strange = self.undeclared[event.type]
        if not strange.isdisjoint(event.data):
            data = {name: value for name, value in event.data.items() if name not in strange}
            event = msgspec.structs.replace(event, data=data)
        passes = [matches is None or matches(event) for matches in self.filters]
        taken = [take(event) for take in self.takers]
        return [
            event.occurred_at,
            event.id,
            *[taken[taker] if passes[where] else None for where, taker in self.sources],
        ]

    def tile_of(self, start: int, line: int) -> Tile | None:
        """The tile that holds a moment once everything before `line` may be folded; None: out of every window."""
        for length, reach in self.levels:
            tile = start // length * length
            if tile + length > line - reach:
                return tile, length
        return LIFETIME_TILE if self.lifetime else None

    def merged(self, left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
        """Partials of both, by aggregation."""
        return [a.merge(x, y) for a, x, y in zip(self.aggregations, left, right, strict=True)]

    def finalized(self, windows: Iterable[Sequence[Any]], q: int) -> list[float]:
        """Partials of every window → all features of the view at `q` (ms), in the view's order."""
        grid = [
            [a.value(a.summary(partial, q), q) for a, partial in zip(self.aggregations, partials, strict=True)]
            for partials in windows
        ]
        return [grid[window][place] for place, window in self.outputs]


plan_of = lru_cache(maxsize=256)(Plan)
"""The compiled plan of a view; declarations are compared by identity."""


class Applied(NamedTuple):
    """What `apply` did with events: took in as new, or left out as beyond every window."""

    fresh: Sequence[Event]
    too_late: Sequence[Event] = ()


@dataclass
class ViewState:
    """State of one (view, entity). `apply` changes it, `values` reads it."""

    plan: Plan
    born: int | None = None
    watermark: int = 0
    head: list[Row] = field(default_factory=list)
    singles: dict[Tile, Row] = field(default_factory=dict)
    tiles: dict[Tile, list[Any]] = field(default_factory=dict)
    ring: dict[int, int] = field(default_factory=dict)
    markers: bool = False

    @classmethod
    def new(cls, view: FeatureView) -> ViewState:
        """State of an entity never seen."""
        return cls(plan_of(view), markers=view.entity.hot)

    def apply(self, events: Iterable[Event], now_ms: int, horizon_ms: int) -> Applied:
        """Take in events.

        An id applied within the last `horizon_ms` (wall clock) is a duplicate. When the ring would overflow, `markers`
        turns on: then the caller must commit a marker item for each new event in the same transaction.
        """
        self._forget(now_ms, horizon_ms)
        fresh: dict[int, Event] = {}
        for event in events:
            if (key := id_hash(event.dedup_id)) not in self.ring:
                fresh.setdefault(key, event)  # the copy that arrived first counts, offline too
        if len(self.ring) + len(fresh) > RING_IDS:
            self.markers = True
        if not self.markers:
            self.ring.update(dict.fromkeys(fresh, now_ms // SECOND))
        self._insert(list(fresh.values()))
        return Applied(list(fresh.values()))

    def _forget(self, now_ms: int, horizon_ms: int) -> None:
        oldest = (now_ms - horizon_ms) // SECOND
        self.ring = {key: at for key, at in self.ring.items() if at >= oldest}

    def _insert(self, events: Sequence[Event]) -> None:
        if not events:
            return
        first = min(event.occurred_at for event in events)
        self.born = first if self.born is None else min(self.born, first)
        self.watermark = max(self.watermark, *(event.occurred_at for event in events))
        self.head.extend(self.plan.row(event) for event in events)
        self.head.sort(key=moment)
        self._fold()

    @property
    def line(self) -> int:
        """Everything before this moment (ms) may be folded."""
        return self.watermark - MAX_SKEW

    def _fold(self) -> None:
        surplus = max(len(self.head) - HEAD_EVENTS, 0)
        folded = 0
        while folded < surplus and self.head[folded][0] < self.line:
            folded += 1
        for row in self.head[:folded]:
            self._fold_row(row)
        del self.head[:folded]
        self._coarsen()

    def _fold_row(self, row: Row) -> None:
        tile = self.plan.tile_of(row[0], self.line)
        if tile is None:
            return
        if tile in self.tiles:
            self.tiles[tile] = self._with_row(self.tiles[tile], row)
        elif tile in self.singles:
            first = self._with_row(self._empty(), self.singles.pop(tile))
            self.tiles[tile] = self._with_row(first, row)
        elif self.plan.keeps_rows:
            self.singles[tile] = row
        else:
            self.tiles[tile] = self._with_row(self._empty(), row)

    def _coarsen(self) -> None:
        for tile in self._outgrown(self.singles):
            self._fold_row(self.singles.pop(tile))
        for tile in self._outgrown(self.tiles):
            self._move(tile, self.plan.tile_of(tile[0], self.line))

    def _outgrown(self, tiles: Iterable[Tile]) -> list[Tile]:
        """Tiles that no window needs as fine as they are."""
        expiry = {length: self.line - reach - length for length, reach in self.plan.levels}
        return [tile for tile in tiles if tile != LIFETIME_TILE and tile[0] <= expiry[tile[1]]]

    def _move(self, tile: Tile, target: Tile | None) -> None:
        partials = self.tiles.pop(tile)
        if target is None:
            return
        if target in self.tiles:
            partials = self.plan.merged(self.tiles[target], partials)
        elif target in self.singles:
            partials = self._with_row(partials, self.singles.pop(target))
        self.tiles[target] = partials

    def answers(self, q: int) -> bool:
        """True if moment `q` (ms) can be answered exactly: nothing that `q` must not see has been folded."""
        return len(self.head) < HEAD_EVENTS or q >= self.line

    def seen_before(self, q: int) -> bool:
        """True if the entity had an event before `q`."""
        return self.born is not None and self.born < q

    def values(self, q: int) -> list[float]:
        """All features of the view at `q` (ms), in the view's order. Events at or after `q` do not count."""
        return self.plan.finalized(self.by_window(q), q)

    def by_window(self, q: int) -> Iterator[list[Any]]:
        """Partials of every window, shortest first: each continues where the shorter one stopped."""
        singles = sorted(self.singles.values(), key=moment)
        rows = [*singles, *(row for row in self.head if row[0] < q)]
        tiles = sorted(self.tiles.items())
        running = self._empty()
        for window in self.plan.windows:
            start = window.start(q)
            while rows and (start is None or rows[-1][0] >= start):
                running = self._with_row(running, rows.pop())
            while tiles and (start is None or tiles[-1][0][0] >= start):
                running = self.plan.merged(running, tiles.pop()[1])
            yield running

    def _empty(self) -> list[Any]:
        return [aggregation.empty for aggregation in self.plan.aggregations]

    def _with_row(self, partials: Sequence[Any], row: Row) -> list[Any]:
        moment, event_id, *prepared = row
        inputs = [None if value is None else (moment, event_id, value) for value in prepared]
        return [
            partial if (found := inputs[column]) is None else update(partial, found)
            for (update, column), partial in zip(self.plan.updates, partials, strict=True)
        ]

    def encode(self) -> bytes:
        """The item's bytes: MessagePack and a CRC-32."""
        aggregations = self.plan.aggregations
        body = _ENCODER.encode(
            [
                CODEC,
                self.plan.view.version,
                self.born,
                self.watermark,
                self._relative(self.head),
                self._relative(sorted(self.singles.values(), key=moment)),
                [
                    [*tile, *(a.pack(p) for a, p in zip(aggregations, partials, strict=True))]
                    for tile, partials in sorted(self.tiles.items())
                ],
                [part for entry in self.ring.items() for part in entry],
                self.markers,
            ]
        )
        return body + zlib.crc32(body).to_bytes(4, "big")

    def _relative(self, rows: Iterable[Row]) -> list[Row]:
        return [[self.watermark - row[0], *row[1:]] for row in rows]

    @classmethod
    def decode(cls, view: FeatureView, blob: bytes) -> ViewState:
        """Inverse of `encode`. Raises `CorruptItem` for anything that `encode` did not write."""
        body, checksum = blob[:-4], blob[-4:]
        if zlib.crc32(body).to_bytes(4, "big") != checksum:
            raise CorruptItem(f'an item of view "{view.name}" fails its checksum')
        codec, version, *members = _members(view, body)
        if (codec, version) != (CODEC, view.version):
            raise CorruptItem(f'an item of view "{view.name}" has codec {codec} and definition {version}')
        born, watermark, head, singles, tiles, ring, markers = members
        plan = plan_of(view)
        state = cls(plan, born, watermark, markers=markers)
        state.head = state._relative(head)
        state.singles = {state._place(row): row for row in state._relative(singles)}
        state.tiles = {
            (tile[0], tile[1]): [a.unpack(p) for a, p in zip(plan.aggregations, tile[2:], strict=True)]
            for tile in tiles
        }
        state.ring = dict(zip(ring[::2], ring[1::2], strict=True))
        return state

    def _place(self, row: Row) -> Tile:
        """The tile of a row that is kept: the one it would be folded into now."""
        tile = self.plan.tile_of(row[0], self.line)
        assert tile is not None
        return tile


def _members(view: FeatureView, body: bytes) -> list[Any]:
    """An item's members, whatever codec wrote them: its number and the definition come first."""
    try:
        found = _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise CorruptItem(f'an item of view "{view.name}" is not MessagePack') from error
    if len(found) < 2:
        raise CorruptItem(f'an item of view "{view.name}" has no codec')
    return found


def values(shards: Sequence[ViewState], q: int) -> list[float]:
    """All features of one entity at `q` (ms), from the states of all its shards."""
    plan = shards[0].plan
    windows, *others = [state.by_window(q) for state in shards]
    for other in others:
        windows = map(plan.merged, windows, other)
    return plan.finalized(windows, q)


def id_hash(event_id: str) -> int:
    """64-bit BLAKE2b of an event id, as the ring keeps it."""
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "big", signed=True)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list)
