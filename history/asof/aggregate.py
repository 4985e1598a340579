"""Exact integer parts of declared aggregations over windows, computed from positions in a stream.

A query's events lie in one range of positions, or in two where they differ from the final state (see `bitemporal`).
The window arithmetic is restated here without tiles and without code of the online path; only the declarations are
shared. The integers are those that `Aggregation.value` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property, partial, reduce
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from candor.features.aggregations import (
    Aggregation,
    Count,
    First,
    Last,
    LastCategory,
    Max,
    Mean,
    Min,
    Sum,
    TimeSinceLast,
    Variance,
)
from candor.features.composed import LastK
from candor.features.decayed import DecayedSum, RateOfChange
from candor.features.distinct import Distinct
from candor.features.views import FeatureView
from candor.features.windows import Window
from history.asof import sketches
from history.asof.decay import decayed_sums
from history.asof.events import field_column, kinds
from history.asof.ranges import (
    NARROW,
    Groups,
    Ints,
    Limbs,
    Range,
    earliest,
    exact_sum,
    extremes,
    joined,
    largest,
    latest,
    limbs,
    most,
    running,
    sizes,
    squares,
)
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


class Aggregates:
    """Parts of one view's aggregations for its queries; shared intermediate results are computed once."""

    def __init__(self, view: FeatureView, stream: EventStream, queries: ViewQueries) -> None:
        self._view, self._stream, self._queries = view, stream, queries
        self._known: dict[tuple[Any, ...], Any] = {}
        self._answers: dict[type[Aggregation], Callable[[Any, Window], list[Part]]] = {
            Count: self._count,
            Sum: self._sums,
            Mean: self._sums,
            Variance: self._sums,
            Min: self._extreme,
            Max: self._extreme,
            First: self._first_or_last,
            Last: self._first_or_last,
            TimeSinceLast: self._since,
            LastK: self._last_k,
            RateOfChange: self._change,
            DecayedSum: self._decayed,
            Distinct: self._distinct,
        }

    def of(self, leaf: Aggregation, window: Window) -> list[Part]:
        """Return a leaf's parts in the order of `leaf.parts`."""
        for kind, answer in self._answers.items():
            if isinstance(leaf, kind):
                return answer(leaf, window)
        raise TypeError(f"the offline engine does not support {leaf.op}")  # add it to the dispatch table

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        value: T = self._known[key]
        return value

    def _position(self, key: tuple[Any, ...], moments: Callable[[], Ints]) -> Positions:
        return self._once(("position", *key), lambda: self._positions(moments()))

    def _positions(self, moments: Ints) -> Positions:
        stream, queries = self._stream, self._queries
        return self._cut(
            stream.positions(queries.code, moments), lambda tail: stream.positions(tail, moments)
        )

    def _cut(self, own: Ints, tail: Callable[[Ints], Ints]) -> Positions:
        """Return positions in the entity's own events up to the cut, and in its copy."""
        if self._queries.cut is None or self._queries.tail is None:
            return [own]
        return [np.minimum(own, self._queries.cut), tail(self._queries.tail)]

    @cached_property
    def _end(self) -> Positions:
        return self._positions(self._queries.edge)

    def _end_of(self, window: Window) -> Positions:
        if not window.delay:
            return self._end
        return self._position(("end", window.label), lambda: window_end(self._queries.edge, window))

    def _start(self, window: Window) -> Positions:
        start = window_start(self._queries.q, window)
        begin = self._queries.begin
        if start is None and begin is not None:
            return self._position(("begin",), lambda: begin)
        if start is None:
            born = self._stream.born
            return self._once(("born",), lambda: self._cut(born(self._queries.code), born))
        return self._position(("start", window.label), lambda: start)

    def _within(self, leaf: Aggregation, window: Window) -> Ranges:
        """Return the positions among the events that the leaf selects."""
        kept = self._kept(leaf)
        key = ("within", window.label, *_source(leaf))
        return self._once(
            key, lambda: kept.ranges(self._start(window), _later(self._end_of(window), self._start(window)))
        )

    def _kept(self, leaf: Aggregation) -> Selection:
        return self._once(("kept", *_source(leaf)), lambda: self._keep(leaf))

    def _keep(self, leaf: Aggregation) -> Selection:
        keep = np.ones(len(self._stream.order), np.bool_)
        if leaf.where is not None:
            keep &= self._passes(leaf.where.spec())
        if leaf.field is not None and not _takes_all(leaf):
            names = [field_column(leaf.field, kind) for kind in kinds(self._view, leaf.field)]
            if all(self._stream.source[name].null_count() for name in names):
                keep &= np.any([_is_set(self._stream.column(name)) for name in names], axis=0)
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
            return self._stream.column("type").is_in(list(spec[1])).to_numpy()
        _, field, operation, value = spec
        kind = "text" if isinstance(value, str) else "integer"
        if kind not in kinds(self._view, field):
            return np.zeros(len(self._stream.order), np.bool_)
        column = self._stream.column(field_column(field, kind))
        return _COMPARED[operation](column, value).fill_null(value=False).to_numpy()

    def _values(self, leaf: Aggregation) -> Ints:
        """Return the leaf's field at every event of the stream; 0 where it is missing, and never selected."""
        name = field_column(leaf.field, "integer")
        return self._once(("values", name), lambda: self._stream.column(name).fill_null(0).to_numpy())

    def _count(self, leaf: Count, window: Window) -> list[Part]:
        return [(sizes(self._within(leaf, window)), None)]

    def _since(self, leaf: TimeSinceLast, window: Window) -> list[Part]:
        positions, some = latest(self._within(leaf, window))
        last = np.zeros(len(positions), np.int64)
        last[some] = self._stream.at[self._kept(leaf).rows_at(positions[some])]
        return [(last, some)]

    def _first_or_last(self, leaf: First | Last, window: Window) -> list[Part]:
        ranges = self._within(leaf, window)
        return [self._taken(leaf, *(earliest(ranges) if isinstance(leaf, First) else latest(ranges)))]

    def _last_k(self, leaf: LastK, window: Window) -> list[Part]:
        ranges = self._within(leaf, window)
        return [self._taken(leaf, *latest(ranges, back)) for back in range(1, leaf.k + 1)]

    def _taken(self, leaf: Aggregation, positions: Ints, some: npt.NDArray[np.bool_]) -> Part:
        """Return the field of single selected events, without sorting a whole column.

        A part exists where `some` is true and the event has the field.
        """
        rows = self._stream.order[self._kept(leaf).rows_at(positions[some])]
        text = isinstance(leaf, LastCategory)
        column = self._stream.source[field_column(leaf.field, "text" if text else "integer")].gather(rows)
        if isinstance(leaf, LastCategory):
            codes = {category: code for code, category in enumerate(leaf.categories)}
            column = column.replace_strict(codes, default=-1, return_dtype=pl.Int64)
        values = np.zeros(len(positions), np.int64)
        values[some] = column.fill_null(0).to_numpy()
        present = np.zeros(len(positions), np.bool_)
        present[some] = _is_set(column)
        return values, present

    def _extreme(self, leaf: Min | Max, window: Window) -> list[Part]:
        """Compute all windows of the view together: they share the runs."""
        windows = list({feature.window.label: feature.window for feature in self._view.features}.values())
        choose = np.minimum if isinstance(leaf, Min) else np.maximum

        def answer() -> dict[str, Ints]:
            ranges = [self._within(leaf, each) for each in windows]
            values = self._kept(leaf).of(self._values(leaf))
            parts = extremes(values, ranges, choose)
            return {each.label: part for each, part in zip(windows, parts, strict=True)}

        some = sizes(self._within(leaf, window)) > 0
        return [(self._once((leaf.op, *_source(leaf)), answer)[window.label], some)]

    def _sums(self, leaf: Sum | Mean | Variance, window: Window) -> list[Part]:
        ranges = self._within(leaf, window)
        n: Part = (sizes(ranges), None)
        total: Part = (self._sum(leaf, ranges), None)
        if isinstance(leaf, Sum):
            return [total]
        return [n, total] if isinstance(leaf, Mean) else [n, total, (self._sum(leaf, ranges, power=2), None)]

    def _sum(self, leaf: Aggregation, ranges: Ranges, power: int = 1) -> npt.NDArray[Any]:
        if leaf.field is None:
            return sizes(ranges)
        sums = self._running(leaf, power, most(sizes(ranges)))
        return joined(
            [
                (reduce(np.add, [part[ends] - part[starts] for starts, ends in ranges]), shift)
                for part, shift in sums
            ]
        )

    def _running(self, leaf: Aggregation, power: int, members: int) -> Limbs:
        """Return running sums of the field or its squares, in as many limbs as sums of so many members need."""
        values = self._once(("mine", *_source(leaf)), lambda: self._kept(leaf).of(self._values(leaf)))
        narrow = largest(values) ** power * members < NARROW
        key = ("running", power, narrow, *_source(leaf))
        parts = [(values**power, 0)] if narrow else limbs(values) if power == 1 else squares(values)
        return self._once(key, lambda: [(running(part), shift) for part, shift in parts])

    def _change(self, leaf: RateOfChange, window: Window) -> list[Part]:
        return [(self._sum(leaf, ranges), None) for ranges in self._periods(leaf, window)]

    def _period_start(self, leaf: RateOfChange, back: int) -> Positions:
        moments = on_grid(self._queries.q - back * leaf.period, leaf.step)
        return self._position((leaf.period, leaf.step, back), lambda: moments)

    def _periods(self, leaf: RateOfChange, window: Window) -> tuple[Ranges, Ranges]:
        """Return positions of the latest period and of the period before it."""
        kept, start = self._kept(leaf), self._start(window)
        later, before = (_later(self._period_start(leaf, back), start) for back in (1, 2))
        end = _later(self._end, later)
        return kept.ranges(later, end), kept.ranges(list(map(np.minimum, before, later)), later)

    def _decayed(self, leaf: DecayedSum, window: Window) -> list[Part]:
        ranges = self._within(leaf, window)
        kept = self._kept(leaf)
        oldest = window.reach // leaf.step + 1
        steps = self._queries.q // leaf.step

        def edge(run: int, age: int) -> Ints:
            positions = self._positions((steps - age) * leaf.step)
            return kept.ranges(positions, positions)[run][0]

        ages = (steps, kept.of(self._stream.at) // leaf.step)
        values = kept.of(self._values(leaf))
        sums = [
            decayed_sums(values, positions, weights(oldest), ages, partial(edge, run))
            for run, positions in enumerate(ranges)
        ]
        return [(reduce(exact_sum, sums), None)]

    def _distinct(self, leaf: Distinct, window: Window) -> list[Part]:
        ranges = self._within(leaf, window)
        kept = self._kept(leaf)
        named = self._once(
            ("named", leaf.field), lambda: sketches.field_codes(self._stream, self._view, str(leaf.field))
        )
        values = kept.of(named.codes)
        entities = kept.of(self._stream.entity)
        key = ("groups", *_source(leaf))
        n = self._once(key, lambda: Groups(entities * len(named.texts) + values)).distinct(ranges)
        beyond = n > leaf.exact
        zeros, harmonic = np.zeros(len(n), np.int64), np.zeros(len(n), object)
        if beyond.any():
            digests = named.registers(values)
            large = [(starts[beyond], ends[beyond]) for starts, ends in ranges]
            zeros[beyond], harmonic[beyond] = sketches.register_sums(entities, digests, large)
        return [(n, ~beyond), (zeros, beyond), (harmonic, beyond)]


def weights(oldest: int) -> Ints:
    """2^(32 − age/8) by age in eighths of a half-life, rounded to an integer."""
    with localcontext(prec=60):
        return np.array(
            [int((2 ** (32 - Decimal(age) / 8)).to_integral_value()) for age in range(oldest + 1)]
        )


def _source(leaf: Aggregation) -> tuple[str | None, str]:
    """Key of the events that a leaf selects: its field and filter."""
    return None if _takes_all(leaf) else leaf.field, repr(leaf.filter_spec)


def _takes_all(leaf: Aggregation) -> bool:
    """True if the leaf also counts events without its field."""
    return isinstance(leaf, LastK) and leaf.over == "events"


def _later(ends: Positions, starts: Positions) -> Positions:
    """Clamp ends to their starts."""
    return list(map(np.maximum, ends, starts))


def _is_set(column: pl.Series) -> npt.NDArray[np.bool_]:
    return column.is_not_null().to_numpy()


_COMPARED: Final[dict[str, Callable[[pl.Series, Any], pl.Series]]] = {
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
