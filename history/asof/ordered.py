"""First, last and latest k events: positions at the edges of a range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from candor.clock import SECOND
from candor.features.aggregations import (
    Aggregation,
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
from candor.features.windows import Window
from history.asof import sums
from history.asof.events import field_column
from history.asof.finalize import Column, Families, Family, Finished, all_present, is_exact, missing, number
from history.asof.ranges import Ints, earliest, latest
from history.asof.selection import Part, ViewWindows, is_set

_SMALL: Final = 1 << 28
"""Sixteen squares of values below this add up, times sixteen, within 64 bits."""


def first_or_last(windows: ViewWindows, leaf: First | Last, window: Window) -> list[Part]:
    """Field of the first or last event."""
    ranges = windows.within(leaf, window)
    return [_taken(windows, leaf, *(earliest(ranges) if isinstance(leaf, First) else latest(ranges)))]


def latest_values(windows: ViewWindows, leaf: LastK, window: Window) -> list[Part]:
    """Fields of the latest k events, latest first."""
    ranges = windows.within(leaf, window)
    return [_taken(windows, leaf, *latest(ranges, back)) for back in range(1, leaf.k + 1)]


def last_moment(windows: ViewWindows, leaf: TimeSinceLast, window: Window) -> list[Part]:
    """Moment (ms) of the last event."""
    positions, some = latest(windows.within(leaf, window))
    last = np.zeros(len(positions), np.int64)
    last[some] = windows.stream.at[windows.selected(leaf).rows_at(positions[some])]
    return [(last, some)]


def _taken(windows: ViewWindows, leaf: Aggregation, positions: Ints, some: npt.NDArray[np.bool_]) -> Part:
    """Return the field of single selected events, without sorting a whole column.

    A part exists where `some` is true and the event has the field.
    """
    rows = windows.stream.order[windows.selected(leaf).rows_at(positions[some])]
    text = isinstance(leaf, LastCategory)
    column = windows.stream.source[field_column(leaf.field, "text" if text else "integer")].gather(rows)
    if isinstance(leaf, LastCategory):
        codes = {category: code for code, category in enumerate(leaf.categories)}
        column = column.replace_strict(codes, default=-1, return_dtype=pl.Int64)
    values = np.zeros(len(positions), np.int64)
    values[some] = column.fill_null(0).to_numpy()
    present = np.zeros(len(positions), np.bool_)
    present[some] = is_set(column)
    return values, present


def age_in_seconds(column: Column) -> Finished:
    """Seconds from the last event to the query."""
    last, some = column.parts[0]
    ago = column.q - last
    return np.where(some, ago / SECOND, np.nan), is_exact(ago) | ~all_present(some, ago)


def last_k(column: Column) -> Finished:
    """Aggregate the values present as the inner aggregation does."""
    assert isinstance(column.aggregation, LastK)
    some = np.array([all_present(present, values) for values, present in column.parts])
    values = np.array([integers for integers, _ in column.parts])
    n = some.sum(axis=0)
    if not ((values < _SMALL) & (values > -_SMALL)).all():
        return missing(column.q), np.zeros(len(column.q), np.bool_)
    counted = np.where(some, values, 0)
    inner: dict[type[Aggregation], Callable[[], tuple[list[Part], Callable[[Column], Finished]]]] = {
        Sum: lambda: ([(counted.sum(axis=0), None)], number),
        Mean: lambda: ([(n, None), (counted.sum(axis=0), None)], sums.mean),
        Variance: lambda: (
            [(n, None), (counted.sum(axis=0), None), ((counted**2).sum(axis=0), None)],
            sums.variance,
        ),
        Min: lambda: ([(np.where(some, values, _SMALL).min(axis=0), n > 0)], number),
        Max: lambda: ([(np.where(some, values, -_SMALL).max(axis=0), n > 0)], number),
    }
    of = column.aggregation.of
    parts, finalizer = inner[type(of)]()
    return finalizer(Column(of, parts, column.q))


FAMILIES: Final[Families] = {
    First: Family(first_or_last, number),
    Last: Family(first_or_last, number),
    LastCategory: Family(first_or_last, number),
    TimeSinceLast: Family(last_moment, age_in_seconds),
    LastK: Family(latest_values, last_k),
}
