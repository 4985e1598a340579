"""A declared aggregation over a window as exact integers, said in positions of a stream.

The window arithmetic is restated here, no tile exists, and nothing of the online path takes part: what is shared is the
declarations. The integers are those that `Aggregation.value` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property
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
from history.asof.events import field_column, kinds
from history.asof.ranges import (
    NARROW,
    Ints,
    Limbs,
    distinct,
    extremes,
    joined,
    largest,
    limbs,
    most,
    running,
    squares,
)
from history.asof.stream import Asked, Stream
from history.asof.weighing import weighed

T = TypeVar("T")

Part = tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]
"""One integer for each question, and which of them there are; None: all."""

Range = tuple[Ints, Ints]
"""Positions [start, end) for each question."""


def on_grid(moments: Ints, step: int) -> Ints:
    """⌊t/s⌋·s."""
    return moments // step * step


def start_of(q: Ints, window: Window) -> Ints | None:
    """⌊(q − D − W)/h⌋·h, of a delay D; None where there is no left edge."""
    if window.length is None or window.hop is None:
        return None
    return on_grid(q - window.delay - window.length, window.hop)


@dataclass(frozen=True)
class Kept:
    """Events that pass a filter and have the field (or may lack it), in order: their places in the stream."""

    rows: Ints | None
    before: Ints | None
    """How many of them stand before each place of the stream; None: all events are kept."""

    def ranges(self, found: Range) -> Range:
        return found if self.before is None else (self.before[found[0]], self.before[found[1]])

    def rows_at(self, places: Ints) -> Ints:
        """Places in the stream of these of the kept events."""
        return places if self.rows is None else self.rows[places]

    def of(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return column if self.rows is None else column[self.rows]


class Parts:
    """Parts of one view's aggregations for its questions; what several share is computed once."""

    def __init__(self, view: FeatureView, stream: Stream, asked: Asked) -> None:
        self._view, self._stream, self._asked = view, stream, asked
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
        """A leaf's parts in the order of `leaf.parts`."""
        for kind, answer in self._answers.items():
            if isinstance(leaf, kind):
                return answer(leaf, window)
        raise TypeError(f"the offline engine does not know {leaf.op}")  # a new one needs its words here

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found

    def _position(self, key: tuple[Any, ...], moments: Callable[[], Ints]) -> Ints:
        return self._once(("position", *key), lambda: self._stream.positions(self._asked.code, moments()))

    @cached_property
    def _end(self) -> Ints:
        return self._stream.positions(self._asked.code, self._asked.edge)

    def _start(self, window: Window) -> Ints:
        found = start_of(self._asked.q, window)
        if found is None:
            return self._once(("born",), lambda: np.searchsorted(self._stream.code, self._asked.code))
        return self._position(("start", window.label), lambda: found)

    def _within(self, leaf: Aggregation, window: Window) -> Range:
        """Positions among the events that the leaf keeps."""
        kept = self._kept(leaf)
        key = ("within", window.label, *_source(leaf))
        return self._once(
            key,
            lambda: kept.ranges((self._start(window), np.maximum(self._end_of(window), self._start(window)))),
        )

    def _end_of(self, window: Window) -> Ints:
        """The question's edge, or ⌊(edge − D)/h⌋·h of a delayed window."""
        hop = window.hop
        if not window.delay or hop is None:
            return self._end
        return self._position(("end", window.label), lambda: on_grid(self._asked.edge - window.delay, hop))

    def _kept(self, leaf: Aggregation) -> Kept:
        return self._once(("kept", *_source(leaf)), lambda: self._keep(leaf))

    def _keep(self, leaf: Aggregation) -> Kept:
        keep = np.ones(len(self._stream.order), np.bool_)
        if leaf.where is not None:
            keep &= self._passes(leaf.where.spec())
        if leaf.field is not None and not _takes_all(leaf):
            names = [field_column(leaf.field, kind) for kind in kinds(self._view, leaf.field)]
            if all(self._stream.source[name].null_count() for name in names):
                keep &= np.any([_is_set(self._stream.column(name)) for name in names], axis=0)
        if keep.all():
            return Kept(None, None)
        return Kept(np.flatnonzero(keep), running(keep.astype(np.int64)))

    def _passes(self, spec: Sequence[Any]) -> npt.NDArray[np.bool_]:
        """A declared filter. A missing field matches no comparison, so no null is left when `not` turns it round."""
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
        """The leaf's field at every event of the stream; 0 where it is missing, which is never kept."""
        name = field_column(leaf.field, "integer")
        return self._once(("values", name), lambda: self._stream.column(name).fill_null(0).to_numpy())

    def _count(self, leaf: Count, window: Window) -> list[Part]:
        return [(_sizes(self._within(leaf, window)), None)]

    def _since(self, leaf: TimeSinceLast, window: Window) -> list[Part]:
        starts, ends = self._within(leaf, window)
        some = ends > starts
        last = np.zeros(len(starts), np.int64)
        last[some] = self._stream.at[self._kept(leaf).rows_at(ends[some] - 1)]
        return [(last, some)]

    def _first_or_last(self, leaf: First | Last, window: Window) -> list[Part]:
        starts, ends = self._within(leaf, window)
        return [self._taken(leaf, starts if isinstance(leaf, First) else ends - 1, ends > starts)]

    def _last_k(self, leaf: LastK, window: Window) -> list[Part]:
        starts, ends = self._within(leaf, window)
        return [self._taken(leaf, ends - back, ends - back >= starts) for back in range(1, leaf.k + 1)]

    def _taken(self, leaf: Aggregation, places: Ints, some: npt.NDArray[np.bool_]) -> Part:
        """The field of single events, of which the leaf keeps these: nobody sorts a column for them.

        There is a part where `some` says so and the event has the field.
        """
        rows = self._stream.order[self._kept(leaf).rows_at(places[some])]
        text = isinstance(leaf, LastCategory)
        column = self._stream.source[field_column(leaf.field, "text" if text else "integer")].gather(rows)
        if isinstance(leaf, LastCategory):
            codes = {category: code for code, category in enumerate(leaf.categories)}
            column = column.replace_strict(codes, default=-1, return_dtype=pl.Int64)
        found = np.zeros(len(places), np.int64)
        found[some] = column.fill_null(0).to_numpy()
        present = np.zeros(len(places), np.bool_)
        present[some] = _is_set(column)
        return found, present

    def _extreme(self, leaf: Min | Max, window: Window) -> list[Part]:
        """All windows of the view in one go: they share the runs."""
        windows = list({one.window.label: one.window for one in self._view.features}.values())
        choose = np.minimum if isinstance(leaf, Min) else np.maximum

        def answer() -> dict[str, Ints]:
            found = [self._within(leaf, one) for one in windows]
            starts, ends = (np.concatenate([one[side] for one in found]) for side in (0, 1))
            chosen = extremes(self._kept(leaf).of(self._values(leaf)), starts, ends, choose)
            parts = np.split(chosen, len(windows))
            return {one.label: part for one, part in zip(windows, parts, strict=True)}

        starts, ends = self._within(leaf, window)
        return [(self._once((leaf.op, *_source(leaf)), answer)[window.label], ends > starts)]

    def _sums(self, leaf: Sum | Mean | Variance, window: Window) -> list[Part]:
        found = self._within(leaf, window)
        n: Part = (_sizes(found), None)
        total: Part = (self._sum(leaf, found), None)
        if isinstance(leaf, Sum):
            return [total]
        return [n, total] if isinstance(leaf, Mean) else [n, total, (self._sum(leaf, found, power=2), None)]

    def _sum(self, leaf: Aggregation, found: Range, power: int = 1) -> npt.NDArray[Any]:
        if leaf.field is None:
            return _sizes(found)
        starts, ends = found
        sums = self._running(leaf, power, most(_sizes(found)))
        return joined([(part[ends] - part[starts], shift) for part, shift in sums])

    def _running(self, leaf: Aggregation, power: int, members: int) -> Limbs:
        """Running sums of the field, or of its squares, in as many limbs as sums of so many members need."""
        values = self._once(("mine", *_source(leaf)), lambda: self._kept(leaf).of(self._values(leaf)))
        narrow = largest(values) ** power * members < NARROW
        key = ("running", power, narrow, *_source(leaf))
        parts = [(values**power, 0)] if narrow else limbs(values) if power == 1 else squares(values)
        return self._once(key, lambda: [(running(part), shift) for part, shift in parts])

    def _change(self, leaf: RateOfChange, window: Window) -> list[Part]:
        return [(self._sum(leaf, found), None) for found in self._periods(leaf, window)]

    def _period_start(self, leaf: RateOfChange, back: int) -> Ints:
        moments = on_grid(self._asked.q - back * leaf.period, leaf.step)
        return self._position((leaf.period, leaf.step, back), lambda: moments)

    def _periods(self, leaf: RateOfChange, window: Window) -> tuple[Range, Range]:
        """Positions of the last period, and of the one before it."""
        kept, start = self._kept(leaf), self._start(window)
        middle, first = (self._period_start(leaf, back) for back in (1, 2))
        later, earlier = np.maximum(middle, start), np.maximum(first, start)
        end = np.maximum(self._end, later)
        return kept.ranges((later, end)), kept.ranges((np.minimum(earlier, later), later))

    def _decayed(self, leaf: DecayedSum, window: Window) -> list[Part]:
        assert window.length is not None
        assert window.hop is not None
        found = self._within(leaf, window)
        kept = self._kept(leaf)
        oldest = window.reach // leaf.step + 1
        steps = self._asked.q // leaf.step

        def edge(age: int) -> Ints:
            moments = (steps - age) * leaf.step
            return kept.ranges((self._stream.positions(self._asked.code, moments),) * 2)[0]

        ages = (steps, kept.of(self._stream.at) // leaf.step)
        return [(weighed(kept.of(self._values(leaf)), found, weights(oldest), ages, edge), None)]

    def _distinct(self, leaf: Distinct, window: Window) -> list[Part]:
        starts, ends = self._within(leaf, window)
        kept = self._kept(leaf)
        named = self._once(
            ("named", leaf.field), lambda: sketches.named(self._stream, self._view, str(leaf.field))
        )
        values = kept.of(named.codes)
        entities = kept.of(self._stream.code)
        n = distinct(entities * len(named.texts) + values, starts, ends)
        beyond = n > leaf.exact
        zeros, harmonic = np.zeros(len(n), np.int64), np.zeros(len(n), object)
        if beyond.any():
            digests = named.registers(values)
            found = sketches.summaries(entities, digests, starts[beyond], ends[beyond])
            zeros[beyond], harmonic[beyond] = found
        return [(n, ~beyond), (zeros, beyond), (harmonic, beyond)]


def weights(oldest: int) -> Ints:
    """2^(32 − age/8) by age in eighths of a half-life, rounded to a whole number."""
    with localcontext(prec=60):
        return np.array(
            [int((2 ** (32 - Decimal(age) / 8)).to_integral_value()) for age in range(oldest + 1)]
        )


def _source(leaf: Aggregation) -> tuple[str | None, str]:
    """What decides which events a leaf keeps."""
    return None if _takes_all(leaf) else leaf.field, repr(leaf.filter_spec)


def _takes_all(leaf: Aggregation) -> bool:
    """True if the leaf counts events that lack its field as well."""
    return isinstance(leaf, LastK) and leaf.over == "events"


def _sizes(found: Range) -> Ints:
    return found[1] - found[0]


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
