"""Counts, sums and their quotients: differences of running sums."""

from __future__ import annotations

from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from candor.features.aggregations import Aggregation, Count, Mean, Sum, Variance
from candor.features.decayed import RateOfChange
from candor.features.windows import Window
from history.asof.finalize import ROOMY, Column, Families, Family, Finished, number, quotient
from history.asof.ranges import NARROW, Limbs, joined, largest, limbs, most, running, sizes, squares
from history.asof.selection import Part, Positions, Ranges, ViewWindows, not_before, on_grid, source_key


def count(windows: ViewWindows, leaf: Count, window: Window) -> list[Part]:
    """Number of events."""
    return [(sizes(windows.within(leaf, window)), None)]


def sums(windows: ViewWindows, leaf: Sum | Mean | Variance, window: Window) -> list[Part]:
    """Number, sum and sum of squares, as many as the leaf has parts."""
    ranges = windows.within(leaf, window)
    n: Part = (sizes(ranges), None)
    total: Part = (_sum(windows, leaf, ranges), None)
    if isinstance(leaf, Sum):
        return [total]
    if isinstance(leaf, Mean):
        return [n, total]
    return [n, total, (_sum(windows, leaf, ranges, power=2), None)]


def periods(windows: ViewWindows, leaf: RateOfChange, window: Window) -> list[Part]:
    """Sums of the latest period, and of the period before it."""
    return [(_sum(windows, leaf, ranges), None) for ranges in _periods(windows, leaf, window)]


def mean(column: Column) -> Finished:
    """Sum over number."""
    return quotient(column.parts[1][0], column.parts[0][0])


def variance(column: Column) -> Finished:
    """Population variance, from integers only."""
    n, total, squares = (part[0] for part in column.parts)
    size = n.astype(np.float64)
    fits = (
        (np.abs(size * squares) < ROOMY) & (total.astype(np.float64) ** 2 < ROOMY) & (size < float(1 << 26))
    )
    n, total, squares = (np.where(fits, part, 0) for part in (n, total, squares))
    variances, sure = quotient(n * squares - total * total, n * n)
    return variances, fits if sure is None else fits & sure


def rate_of_change(column: Column) -> Finished:
    """Relative change between the two periods."""
    later, earlier = column.parts[0][0], column.parts[1][0]
    fits = (np.abs(later.astype(np.float64)) < ROOMY) & (np.abs(earlier.astype(np.float64)) < ROOMY)
    rates, sure = quotient(np.where(fits, later - earlier, 0), earlier)
    return rates + 0.0, fits if sure is None else fits & sure


def _sum(windows: ViewWindows, leaf: Aggregation, ranges: Ranges, power: int = 1) -> npt.NDArray[Any]:
    if leaf.field is None:
        return sizes(ranges)
    parts = _running(windows, leaf, power, most(sizes(ranges)))
    return joined(
        [
            (reduce(np.add, [part[ends] - part[starts] for starts, ends in ranges]), shift)
            for part, shift in parts
        ]
    )


def _running(windows: ViewWindows, leaf: Aggregation, power: int, members: int) -> Limbs:
    """Return running sums of the field or its squares, in as many limbs as sums of so many members need."""
    values = windows.once(
        ("members", *source_key(leaf)), lambda: windows.selected(leaf).of(windows.values(leaf))
    )
    narrow = largest(values) ** power * members < NARROW
    key = ("running", power, narrow, *source_key(leaf))
    parts = [(values**power, 0)] if narrow else limbs(values) if power == 1 else squares(values)
    return windows.once(key, lambda: [(running(part), shift) for part, shift in parts])


def _period_start(windows: ViewWindows, leaf: RateOfChange, back: int) -> Positions:
    moments = on_grid(windows.queries.q - back * leaf.period, leaf.step)
    return windows.position((leaf.period, leaf.step, back), lambda: moments)


def _periods(windows: ViewWindows, leaf: RateOfChange, window: Window) -> tuple[Ranges, Ranges]:
    """Return positions of the latest period and of the period before it."""
    selection, start = windows.selected(leaf), windows.start(window)
    later, before = (not_before(_period_start(windows, leaf, back), start) for back in (1, 2))
    end = not_before(windows.end, later)
    return selection.ranges(later, end), selection.ranges(list(map(np.minimum, before, later)), later)


FAMILIES: Final[Families] = {
    Count: Family(count, number),
    Sum: Family(sums, number),
    Mean: Family(sums, mean),
    Variance: Family(sums, variance),
    RateOfChange: Family(periods, rate_of_change),
}
