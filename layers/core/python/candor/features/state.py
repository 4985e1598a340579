"""The state of one (view, entity): what the online store keeps and how events enter and features leave it.

The newest events stay raw, so the right edge of every window is exact. Older ones are folded into tiles on the hop
ladder. A tile is as coarse as the windows that can still reach it allow, so every event is held once
and every left edge falls on a tile's edge. The folded state is a function of the *set* of applied events: neither their
order nor their batches matter (ADR 0002).

A void takes an event back. It waits in `voids` until no moment before it can be asked for, then the two cancel: exactly
where the event is still raw or yet to come, else by removal from its tile. What an aggregation cannot give back makes
the state `stale` until it is rebuilt.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from candor.clock import SECOND
from candor.contracts import Event
from candor.errors import CorruptItem
from candor.features import size
from candor.features.aggregations import moment
from candor.features.event_types import MAX_SKEW
from candor.features.plan import LIFETIME_TILE, Plan, Row, Tile, plan_of
from candor.features.views import FeatureView

HEAD_EVENTS = 32
"""So many newest events always stay raw; more of them, up to `MOST_RAW`, while a moment before them can be asked for."""

RING_IDS, MOST_RAW, MOST_VOIDS = size.RING_IDS, size.MOST_RAW, size.MOST_VOIDS

CODEC = 3
READABLE = (2, CODEC)
"""Codec 2 had a boolean for `markers` where the flags are, and nothing after it; what was folded showed in its head."""

MARKERS, FOLDED, STALE, FILLED = 1, 2, 4, 8
"""Flags of an item."""


class Applied(NamedTuple):
    """What `apply` did with events that it did not know: took in, or left out.

    `too_late`: beyond every window. `erased`: they occurred before the entity was erased. `went_stale`: one of them voided
    what cannot be given back.
    """

    fresh: Sequence[Event]
    too_late: Sequence[Event] = ()
    erased: Sequence[Event] = ()
    went_stale: bool = False


class ViewState(msgspec.Struct):
    """State of one (view, entity). `apply` changes it, `values` reads it.

    `folded`: something left the head, or was left out, so that moments before the line cannot be answered any more.
    `voids` are rows behind their `voided_at`. `filled`: what happened before the view was declared is in. `erased_at`: a
    tombstone (ms), nothing that occurred earlier is ever taken in again.
    """

    plan: Plan
    born: int | None = None
    watermark: int = 0
    head: list[Row] = []
    singles: dict[Tile, Row] = {}
    tiles: dict[Tile, Sequence[Any]] = {}
    ring: dict[int, int] = {}
    markers: bool = False
    folded: bool = False
    voids: list[Row] = []
    stale: bool = False
    filled: bool = False
    erased_at: int | None = None

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
        too_late: list[Event] = []
        erased: list[Event] = []
        reached = self.plan.oldest(self.line)
        for event in events:
            if (key := id_hash(event.dedup_id)) in self.ring:
                continue
            if self.erased_at is not None and event.occurred_at < self.erased_at:
                erased.append(event)
            elif reached is not None and event.occurred_at < reached:
                too_late.append(event)
            else:
                fresh.setdefault(key, event)  # the copy that arrived first counts, offline too
        if len(self.ring) + len(fresh) > RING_IDS:
            self.markers = True
        if not self.markers:
            self.ring.update(dict.fromkeys(fresh, now_ms // SECOND))
        was_stale = self.stale
        self.folded |= bool(too_late)
        self._insert(list(fresh.values()))
        return Applied(list(fresh.values()), too_late, erased, self.stale and not was_stale)

    def replay(self, events: Iterable[Event]) -> None:
        """Take in events that are known to be new, as the log of commits knows them: nothing is deduplicated."""
        erased_at = self.erased_at or 0
        self._insert([event for event in events if event.occurred_at >= erased_at])

    def erase(self, at: int) -> None:
        """Forget everything but which ids were applied; what occurred before `at` (ms) stays out for good."""
        self.born, self.watermark = None, 0
        self.folded, self.stale = False, False
        self.head, self.voids = [], []
        self.singles, self.tiles = {}, {}
        self.erased_at = at if self.erased_at is None else max(self.erased_at, at)

    def _forget(self, now_ms: int, horizon_ms: int) -> None:
        oldest = (now_ms - horizon_ms) // SECOND
        self.ring = {key: at for key, at in self.ring.items() if at >= oldest}

    def _insert(self, events: Sequence[Event]) -> None:
        if not events:
            return
        voids = [event for event in events if event.voided_at is not None]
        occurred = [event.occurred_at for event in events]
        self.born = min(occurred) if self.born is None else min(self.born, *occurred)
        self.watermark = max(self.watermark, *occurred, *(void.voided_at or 0 for void in voids))
        self.voids += [[void.voided_at, *self.plan.row(void)] for void in voids]
        self.head += [self.plan.row(event) for event in events if event.voided_at is None]
        self.head.sort(key=moment)
        self._cancel()
        self._fold()
        self._settle()

    @property
    def line(self) -> int:
        """Everything before this moment (ms) may be folded."""
        return self.watermark - MAX_SKEW

    def _cancel(self) -> None:
        """Voids that every moment sees, and whose event is raw: it stays in its place and counts nothing."""
        raw = {row[1]: row for row in self.head} if self.voids else {}
        for void in [void for void in self._ripe() if void[2] in raw]:
            row = raw[void[2]]
            row[2:] = [None] * (len(row) - 2)
            self.voids.remove(void)
            self.folded = True

    def _ripe(self) -> list[Row]:
        """Voids that every moment sees that can be asked for: those before the line, and the oldest of too many."""
        self.voids.sort(key=lambda void: void[:3])
        surplus = len(self.voids) - MOST_VOIDS
        return [void for place, void in enumerate(self.voids) if void[0] < self.line or place < surplus]

    def _settle(self) -> None:
        """Voids whose event has been folded, or would be, had it come; those of events that never come leave as well."""
        raw = {row[1] for row in self.head} if self.voids else set()
        crowded = len(self.voids) > HEAD_EVENTS
        ripe = self._ripe()
        for void in [
            void for void in self.voids if void[2] not in raw and (crowded or self._is_folded(void[1:]))
        ]:
            self.stale |= not self._gives_back(void[1:])
            if void in ripe:
                self._remove(void[1:])
                self.voids.remove(void)
                self.folded = True

    def _is_folded(self, row: Row) -> bool:
        """True if an event that is not raw can only be in a tile: it is older than a full head."""
        full = len(self.head) >= HEAD_EVENTS
        return full and (not self.head or moment(row) < moment(self.head[0]))

    def _gives_back(self, row: Row) -> bool:
        tile = self.plan.tile_of(row[0], self.line)
        single = self.singles.get(tile) if tile else None
        return tile is None or (single is not None and single[1] == row[1]) or self.plan.gives_back(row)

    def _remove(self, row: Row) -> None:
        tile = self.plan.tile_of(row[0], self.line)
        if tile is None:
            return
        single = self.singles.pop(tile, None)
        if single is None:
            self.tiles[tile] = self.plan.without_row(self.tiles.get(tile, self.plan.empty), row)
        elif single[1] != row[1]:
            self.tiles[tile] = self.plan.without_row(self.plan.with_row(self.plan.empty, single), row)

    def _fold(self) -> None:
        surplus = max(len(self.head) - HEAD_EVENTS, 0)
        folded = max(len(self.head) - MOST_RAW, 0)
        while folded < surplus and self.head[folded][0] < self.line:
            folded += 1
        self._fold_rows(self.head[:folded])
        del self.head[:folded]
        self.folded |= folded > 0
        self._coarsen()

    def _fold_rows(self, rows: Iterable[Row]) -> None:
        by_tile: dict[Tile, list[Row]] = defaultdict(list)
        line = self.line
        for row in rows:
            tile = self.plan.tile_of(row[0], line)
            if tile is not None and row.count(None) < len(row) - 2:
                by_tile[tile].append(row)
        for tile, found in by_tile.items():
            if tile in self.singles:
                found.append(self.singles.pop(tile))
            if len(found) == 1 and self.plan.keeps_rows and tile not in self.tiles:
                self.singles[tile] = found[0]
            else:
                self.tiles[tile] = self.plan.with_rows(self.tiles.get(tile, self.plan.empty), found)

    def _coarsen(self) -> None:
        self._fold_rows([self.singles.pop(tile) for tile in self._outgrown(self.singles)])
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
            partials = self.plan.with_row(partials, self.singles.pop(target))
        self.tiles[target] = partials

    def answers(self, q: int) -> bool:
        """True if moment `q` (ms) can be answered exactly: nothing that `q` must tell apart has been folded."""
        return not self.folded or q >= self.exact_from

    @property
    def exact_from(self) -> int:
        """The first moment (ms) that nothing folded lies behind: the line, or later in a crowd."""
        found = self.line
        if len(self.head) >= MOST_RAW:
            found = max(found, int(self.head[0][0]) + 1)
        if len(self.voids) >= MOST_VOIDS:
            found = max(found, min(int(void[0]) for void in self.voids) + 1)
        return found

    def seen_before(self, q: int) -> bool:
        """True if the entity had an event before `q`, voided or not."""
        return self.born is not None and self.born < q

    def values(self, q: int) -> list[float]:
        """All features of the view at `q` (ms), in the view's order. Events at or after `q` do not count."""
        return values([self], q)

    def rows_at(self, q: int) -> tuple[list[Row], list[Row]]:
        """Raw events that count at `q`, and those that tiles hold and that count no more."""
        rows = [*self.singles.values(), *(row for row in self.head if row[0] < q)]
        return self._less_voided(rows, q) if self.voids else (rows, [])

    def _less_voided(self, rows: Sequence[Row], q: int) -> tuple[list[Row], list[Row]]:
        """Rows without those voided before `q`, and the voided ones that tiles hold."""
        voided = {void[2]: void[1:] for void in self.voids if void[0] < q}
        raw = {row[1] for row in rows}
        removed = [row for row in voided.values() if row[1] not in raw and self._is_folded(row)]
        return [row for row in rows if row[1] not in voided], removed

    def encode(self) -> bytes:
        """The item's bytes: MessagePack and a CRC-32. Voids and tombstone, rare as they are, stand last or not at all."""
        aggregations = self.plan.aggregations
        members = [
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
            list(chain.from_iterable(self.ring.items())),
            MARKERS * self.markers | FOLDED * self.folded | STALE * self.stale | FILLED * self.filled,
        ]
        if self.voids or self.erased_at is not None:
            members += [sorted(self.voids, key=lambda void: void[:3]), self.erased_at]
        body = _ENCODER.encode(members)
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
        if codec not in READABLE or version != view.version:
            raise CorruptItem(f'an item of view "{view.name}" has codec {codec} and definition {version}')
        born, watermark, head, singles, tiles, ring, flags, *rare = members
        plan = plan_of(view)
        state = cls(plan, born, watermark)
        state.head = state._relative(head)
        state.singles = {state._place(row): row for row in state._relative(singles)}
        partials = plan.unpacked([tile[2:] for tile in tiles])
        state.tiles = {(tile[0], tile[1]): held for tile, held in zip(tiles, partials, strict=True)}
        state.ring = dict(zip(ring[::2], ring[1::2], strict=True))
        if codec == 2 and len(head) >= HEAD_EVENTS:
            flags |= FOLDED
        state.markers, state.folded = bool(flags & MARKERS), bool(flags & FOLDED)
        state.stale, state.filled = bool(flags & STALE), bool(flags & FILLED)
        state.voids, state.erased_at = rare or ([], None)
        return state

    def _place(self, row: Row) -> Tile:
        """The tile of a row that is kept: the one it would be folded into now."""
        tile = self.plan.tile_of(row[0], self.line)
        assert tile is not None
        return tile


def _taken(ordered: list[Any], start: int | None) -> list[Any]:
    """Takes from the list, ordered by moment, everything from `start` on; all of it for None."""
    place = 0 if start is None else bisect_left(ordered, start, key=itemgetter(0))
    taken = ordered[place:]
    del ordered[place:]
    return taken


def values(shards: Sequence[ViewState], q: int) -> list[float]:
    """All features of one entity at `q` (ms), from the states of all its shards."""
    plan = shards[0].plan
    return plan.finalized(_by_window(plan, shards, q), q)


def _by_window(plan: Plan, shards: Sequence[ViewState], q: int) -> Iterator[Sequence[Any]]:
    """Partials of every window, shortest first: each continues where the shorter one stopped."""
    rows, removed = (
        sorted(chain(*found), key=moment) for found in zip(*(s.rows_at(q) for s in shards), strict=True)
    )
    held = ((tile[0], partials) for shard in shards for tile, partials in shard.tiles.items())
    tiles = sorted(held, key=itemgetter(0))
    running: Sequence[Any] = plan.empty
    for window in plan.windows:
        start = window.start(q)
        running = plan.with_rows(running, _taken(rows, start))
        running = plan.all_merged([running, *(partials for _, partials in _taken(tiles, start))])
        for row in _taken(removed, start):
            running = plan.without_row(running, row)
        yield running


def _members(view: FeatureView, body: bytes) -> list[Any]:
    """An item's members, whatever codec wrote them: its number and the definition come first."""
    try:
        found = _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise CorruptItem(f'an item of view "{view.name}" is not MessagePack') from error
    if len(found) < 2:
        raise CorruptItem(f'an item of view "{view.name}" has no codec')
    return found


def id_hash(event_id: str) -> int:
    """64-bit BLAKE2b of an event id, as the ring keeps it."""
    (found,) = _INT64.unpack(blake2b(event_id.encode(), digest_size=8).digest())
    return int(found)


_INT64 = struct.Struct(">q")


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list)
