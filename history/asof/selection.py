"""Positions of a view's events in windows, and the events that an aggregation selects.

A query's events lie in one range of positions, or in two where they differ from the final state (see `bitemporal`). The
window arithmetic is restated here without tiles and without code of the online path; only the declarations are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from candor.features.aggregations import Aggregation
from candor.features.composed import LastK
from candor.features.views import FeatureView
from candor.features.windows import Window
from history.asof.events import field_column, kinds
from history.asof.ranges import Ints, Range, running
from history.asof.stream import EventStream, ViewQueries

T = TypeVar("T")

Part = tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]
"""One integer per query, and a mask of the queries that have one; None: all."""


def on_grid(moments: Ints, step: int) -> Ints:
    """⌊t/s⌋·s."""
    return moments // step * step


def window_start(q: Ints, window: Window) -> Ints | None:
    """⌊(q − W)/h⌋·h; None where the window has no left edge."""
    if window.length is None or window.hop is None:
        return None
    return on_grid(q - window.delay - window.length, window.hop)


def window_end(edge: Ints, window: Window) -> Ints:
    """Right edge of the window: the query's edge, or ⌊(q − D)/h⌋·h."""
    return on_grid(edge - window.delay, window.hop) if window.delay and window.hop else edge


Positions = Sequence[Ints]
"""One position per query, in each of the one or two runs of events that its ranges cover."""

Ranges = Sequence[Range]
"""Positions [start, end) per query, earlier events first."""


@dataclass(frozen=True)
class Selection:
    """Events that pass a filter and, unless the leaf takes all, have the field: their stream positions, in order."""

    rows: Ints | None
    before: Ints | None
    """Number of selected events before each stream position; None: all events are selected."""

    def ranges(self, starts: Positions, ends: Positions) -> Ranges:
        """Map stream positions to positions among the selected events."""
        if self.before is None:
            return list(zip(starts, ends, strict=True))
        before = self.before
        return [(before[start], before[end]) for start, end in zip(starts, ends, strict=True)]

    def rows_at(self, positions: Ints) -> Ints:
        """Return the stream positions of these selected events."""
        return positions if self.rows is None else self.rows[positions]

    def of(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return column if self.rows is None else column[self.rows]


class ViewWindows:
    """Windows of one view for its queries; shared intermediate results are computed once."""

    def __init__(self, view: FeatureView, stream: EventStream, queries: ViewQueries) -> None:
        self.view, self.stream, self.queries = view, stream, queries
        self._known: dict[tuple[Any, ...], Any] = {}

    def once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Return the value of `key`, made on first use."""
        if key not in self._known:
            self._known[key] = make()
        value: T = self._known[key]
        return value

    def position(self, key: tuple[Any, ...], moments: Callable[[], Ints]) -> Positions:
        """Return the positions of moments, computed once per key."""
        return self.once(("position", *key), lambda: self.positions(moments()))

    def positions(self, moments: Ints) -> Positions:
        """Return the positions of one moment (ms) per query."""
        stream, queries = self.stream, self.queries
        return self._cut(
            stream.positions(queries.code, moments), lambda tail: stream.positions(tail, moments)
        )

    def _cut(self, own: Ints, tail: Callable[[Ints], Ints]) -> Positions:
        """Return positions in the entity's own events up to the cut, and in its copy."""
        if self.queries.cut is None or self.queries.tail is None:
            return [own]
        return [np.minimum(own, self.queries.cut), tail(self.queries.tail)]

    @cached_property
    def end(self) -> Positions:
        """Positions of the queries' right edges."""
        return self.positions(self.queries.edge)

    def _end_of(self, window: Window) -> Positions:
        if not window.delay:
            return self.end
        return self.position(("end", window.label), lambda: window_end(self.queries.edge, window))

    def start(self, window: Window) -> Positions:
        """Return the positions of the window's left edges."""
        start = window_start(self.queries.q, window)
        begin = self.queries.begin
        if start is None and begin is not None:
            return self.position(("begin",), lambda: begin)
        if start is None:
            born = self.stream.born
            return self.once(("born",), lambda: self._cut(born(self.queries.code), born))
        return self.position(("start", window.label), lambda: start)

    def within(self, leaf: Aggregation, window: Window) -> Ranges:
        """Return the positions among the events that the leaf selects."""
        selection = self.selected(leaf)
        key = ("within", window.label, *source_key(leaf))
        return self.once(
            key,
            lambda: selection.ranges(
                self.start(window), not_before(self._end_of(window), self.start(window))
            ),
        )

    def selected(self, leaf: Aggregation) -> Selection:
        """Return the events that the leaf selects."""
        return self.once(("selected", *source_key(leaf)), lambda: self._select(leaf))

    def _select(self, leaf: Aggregation) -> Selection:
        keep = np.ones(len(self.stream.order), np.bool_)
        if leaf.where is not None:
            keep &= self._passes(leaf.where.spec())
        if leaf.field is not None and not _takes_all(leaf):
            names = [field_column(leaf.field, kind) for kind in kinds(self.view, leaf.field)]
            if all(self.stream.source[name].null_count() for name in names):
                keep &= np.any([is_set(self.stream.column(name)) for name in names], axis=0)
        if keep.all():
            return Selection(None, None)
        return Selection(np.flatnonzero(keep), running(keep.astype(np.int64)))

    def _passes(self, spec: Sequence[Any]) -> npt.NDArray[np.bool_]:
        """Evaluate a declared filter. A missing field matches no comparison, so `not` meets no null."""
        if spec[0] == "and":
            return self._passes(spec[1]) & self._passes(spec[2])
        if spec[0] == "or":
            return self._passes(spec[1]) | self._passes(spec[2])
        if spec[0] == "not":
            return ~self._passes(spec[1])
        if spec[0] == "type":
            return self.stream.column("type").is_in(list(spec[1])).to_numpy()
        _, field, operation, value = spec
        kind = "text" if isinstance(value, str) else "integer"
        if kind not in kinds(self.view, field):
            return np.zeros(len(self.stream.order), np.bool_)
        column = self.stream.column(field_column(field, kind))
        return _COMPARED[operation](column, value).fill_null(value=False).to_numpy()

    def values(self, leaf: Aggregation) -> Ints:
        """Return the leaf's field at every event of the stream; 0 where it is missing, and never selected."""
        name = field_column(leaf.field, "integer")
        return self.once(("values", name), lambda: self.stream.column(name).fill_null(0).to_numpy())


def source_key(leaf: Aggregation) -> tuple[str | None, str]:
    """Key of the events that a leaf selects: its field and filter."""
    return None if _takes_all(leaf) else leaf.field, repr(leaf.filter_spec)


def _takes_all(leaf: Aggregation) -> bool:
    """True if the leaf also counts events without its field."""
    return isinstance(leaf, LastK) and leaf.over == "events"


def not_before(ends: Positions, starts: Positions) -> Positions:
    """Clamp ends to their starts."""
    return list(map(np.maximum, ends, starts))


def is_set(column: pl.Series) -> npt.NDArray[np.bool_]:
    return column.is_not_null().to_numpy()


_COMPARED: Final[dict[str, Callable[[pl.Series, Any], pl.Series]]] = {
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
