"""Compiled form of a view: shared aggregations and inputs, and the tile lengths of its state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from candor.contracts import Event
from candor.features.aggregations import Aggregation, Input, Inputs
from candor.features.windows import LONGEST

if TYPE_CHECKING:
    from candor.features.views import FeatureView

ROWS_FROM = 8
"""From so many aggregations on, a tile of one event keeps the event: that is smaller than its partials."""

LIFETIME_TILE = (0, 0)

Row = list[Any]
"""Raw event: [occurred_at, event id, prepared value of every source]."""

Tile = tuple[int, int]
"""(start ms, length ms); `LIFETIME_TILE` holds the events that only the lifetime window reaches."""


class ViewPlan:
    """Compiled form of a view, cached per view."""

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
        self.sourced = tuple(sources.values())
        self.empty = tuple(a.empty for a in self.aggregations)
        self.updates = tuple((a.update, column) for a, column in zip(self.aggregations, columns, strict=True))
        self.bulk_updates = tuple(
            (a.update_all, column) for a, column in zip(self.aggregations, columns, strict=True)
        )
        self.finishers = tuple((a.summary, a.value) for a in self.aggregations)
        self.removals = tuple(
            (a.remove if a.invertible else None, column)
            for a, column in zip(self.aggregations, columns, strict=True)
        )
        filters = {repr(a.filter_spec): a.where for a in sources.values()}
        takers = {a.taken: a.take for a in sources.values()}
        self.filters = tuple(None if where is None else where.matches for where in filters.values())
        self.takers = tuple(takers.values())
        self.sources = tuple(
            (list(filters).index(repr(a.filter_spec)), list(takers).index(a.taken)) for a in sources.values()
        )
        windows = sorted({window for _, window in places}, key=lambda w: (w.delay, w.length or 2**62))
        self.windows = tuple(window for window in windows if not window.delay)
        self.delayed = tuple(window for window in windows if window.delay)
        self.outputs = tuple((place, windows.index(window)) for place, window in places)
        self.max_events = view.max_events
        self.longest = max((window.length or 0) for window in windows)
        finite = [(w.hop, w.reach) for w in windows if w.hop is not None and self.max_events is None]
        self.levels = tuple(
            (hop, max(reach for step, reach in finite if step <= hop))
            for hop in sorted({hop for hop, _ in finite})
        )
        self.keeps_rows = len(self.aggregations) >= ROWS_FROM
        self.lifetime = any(window.length is None for window in windows)
        self.expiry = view.expiry_ms
        used = frozenset[str]().union(*(aggregation.fields for aggregation in self.aggregations))
        self.undeclared = {kind.name: used - kind.plain_fields for kind in view.events}

    def row(self, event: Event) -> Row:
        """Event → raw row. Undeclared data fields are ignored."""
        strange = self.undeclared[event.type]
        if strange and not strange.isdisjoint(event.data):
            data = {name: value for name, value in event.data.items() if name not in strange}
            event = msgspec.structs.replace(event, data=data)
        passes = [matches is None or matches(event) for matches in self.filters]
        taken = [take(event) for take in self.takers]
        return [
            event.occurred_at,
            event.id,
            *[taken[taker] if passes[where] else None for where, taker in self.sources],
        ]

    def tile_of(self, start: int, fold_horizon: int) -> Tile | None:
        """The tile of a moment, given the fold horizon (ms); None if no window reaches it."""
        for length, reach in self.levels:
            tile = start // length * length
            if tile + length > fold_horizon - reach:
                return tile, length
        return LIFETIME_TILE if self.lifetime else None

    def most_tiles(self, ahead: int) -> list[tuple[int, int]]:
        """Upper bound on stored tiles per level, as (tile length in ms, count).

        Holds while no event is more than `ahead` ms past the fold horizon. A level holds the tiles that begin after
        horizon − reach − length and before horizon − reach of the finer level.
        """
        bounds, before = [], -ahead
        for length, reach in self.levels:
            bounds.append((length, -(-(reach + length - before) // length)))
            before = reach
        return [*bounds, (LONGEST, 1)] if self.lifetime else bounds

    def fingerprint(self, row: Row) -> int:
        """CRC-32 of a raw event's moment and prepared values; a void must match it to undo the event."""
        return crc32(_ENCODER.encode([row[0], *row[2:]]))

    def oldest(self, fold_horizon: int) -> int | None:
        """First moment (ms) that a window may still reach; None with a lifetime window."""
        if self.lifetime:
            return None
        if self.max_events is not None:
            return fold_horizon - self.longest
        length, reach = self.levels[-1]
        return (fold_horizon - reach) // length * length

    def with_row(self, partials: Sequence[Any], row: Row) -> list[Any]:
        """The partials with one more event."""
        inputs = self._inputs(row)
        return [
            partial if (event := inputs[column]) is None else update(partial, event)
            for (update, column), partial in zip(self.updates, partials, strict=True)
        ]

    def with_rows(self, partials: Sequence[Any], rows: Sequence[Row]) -> Sequence[Any]:
        """The partials with several events; equal to repeated `with_row`, but faster."""
        if len(rows) < 2:
            return self.with_row(partials, rows[0]) if rows else partials
        moments, ids, *columns = zip(*rows, strict=True)
        inputs = [self._counted(moments, ids, column) for column in columns]
        return [
            partial if (events := inputs[column]) is None else update_all(partial, events)
            for (update_all, column), partial in zip(self.bulk_updates, partials, strict=True)
        ]

    def without_row(self, partials: Sequence[Any], row: Row) -> list[Any]:
        """The partials without an event, for invertible aggregations; the others are unchanged."""
        inputs = self._inputs(row)
        return [
            partial if remove is None or (event := inputs[column]) is None else remove(partial, event)
            for (remove, column), partial in zip(self.removals, partials, strict=True)
        ]

    def gives_back(self, row: Row) -> bool:
        """True if every aggregation that counted the event is invertible."""
        return all(remove is not None or row[2 + column] is None for remove, column in self.removals)

    @staticmethod
    def _counted(moments: Sequence[int], ids: Sequence[str], values: Sequence[Any]) -> Inputs | None:
        """Inputs of the events that count for a source; None if none does."""
        if None not in values:
            return moments, ids, values
        events = [event for event in zip(moments, ids, values, strict=True) if event[2] is not None]
        if not events:
            return None
        counted = zip(*events, strict=True)
        return next(counted), next(counted), next(counted)

    @staticmethod
    def _inputs(row: Row) -> list[Input | None]:
        moment, event_id, *prepared = row
        return [None if value is None else (moment, event_id, value) for value in prepared]

    def unpacked(self, tiles: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """Partials of each tile, from their stored form."""
        if not tiles:
            return []
        columns = zip(*tiles, strict=True)
        partials = (
            # Skipped for aggregations that store partials as they are.
            column if type(a).unpack is Aggregation.unpack else a.unpack_all(column)
            for a, column in zip(self.aggregations, columns, strict=True)
        )
        return list(zip(*partials, strict=True))

    def merged(self, left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
        """Merged partials of two."""
        return [a.merge(x, y) for a, x, y in zip(self.aggregations, left, right, strict=True)]

    def all_merged(self, partials: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """Merged partials of one or more."""
        if len(partials) == 1:
            return partials[0]
        columns = zip(*partials, strict=True)
        return [a.merge_all(column) for a, column in zip(self.aggregations, columns, strict=True)]

    def finalized(self, windows: Iterable[Sequence[Any]], q: int) -> list[float]:
        """Partials of every window → all features of the view at `q` (ms), in the view's order."""
        grid: list[list[float]] = []
        before: Sequence[Any] = [grid] * len(self.aggregations)  # a sentinel that equals no partial
        answers = [math.nan] * len(self.aggregations)
        for partials in windows:
            # A longer window often adds no event: then its partial is the same object as the shorter one's.
            answers = [
                answer if partial is old else value(summary(partial, q), q)
                for (summary, value), partial, old, answer in zip(
                    self.finishers, partials, before, answers, strict=True
                )
            ]
            before = partials
            grid.append(answers)
        return [grid[window][place] for place, window in self.outputs]


_ENCODER = msgspec.msgpack.Encoder()

plan_of = lru_cache(maxsize=256)(ViewPlan)
"""The plan of a view, cached; views compare by identity."""
