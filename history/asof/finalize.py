"""Exact integer parts to features, one column at a time, bit-identical to `Aggregation.value`.

Where both integers of a quotient are exactly representable, one float division rounds as Python does. All other rows,
and every aggregation not listed here, are computed by `Aggregation.value` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from candor.clock import SECOND
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
from candor.features.composed import LastK, Ratio
from candor.features.decayed import UNIT, DecayedSum, RateOfChange
from candor.features.distinct import Distinct
from history.asof.aggregate import Part
from history.asof.ranges import Ints

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Finished = tuple[Floats, Mask | None]
"""Features, and a mask of those known to be exact; None: all."""


class Column(NamedTuple):
    """An aggregation's parts for every query, and the queries' moments (ms)."""

    aggregation: Aggregation
    parts: Sequence[Part]
    q: Ints


EXACT: Final = 1 << 53
"""Integers up to this size are exactly representable as floats."""

_ROOMY: Final = float(1 << 62)
_SMALL: Final = 1 << 28
"""Sixteen squares of values below this add up, times sixteen, within 64 bits."""


def finalize(aggregation: Aggregation, parts: Sequence[Part], q: Ints) -> Floats:
    """Return the feature of every query at its moment `q` (ms)."""
    if type(aggregation) is Ratio:
        cut = len(aggregation.of.parts)
        above, below = finalize(aggregation.of, parts[:cut], q), finalize(aggregation.to, parts[cut:], q)
        some = (below != 0) & ~np.isnan(below)
        out = _nothing(q)
        np.divide(above, below, out=out, where=some)
        return out
    fast = _FAST.get(type(aggregation))
    if fast is None or any(values.dtype == object for values, _ in parts if fast is not _distinct):
        return _slow(aggregation, parts, q, _nothing(q), np.arange(len(q)))
    values, sure = fast(Column(aggregation, parts, q))
    return values if sure is None else _slow(aggregation, parts, q, values, np.flatnonzero(~sure))


def _nothing(like: npt.NDArray[Any]) -> Floats:
    return np.full(len(like), np.nan)


def _slow(aggregation: Aggregation, parts: Sequence[Part], q: Ints, out: Floats, rows: Ints) -> Floats:
    columns = [_integers(part, rows) for part in parts]
    for row, moment, *integers in zip(rows.tolist(), q[rows].tolist(), *columns, strict=True):
        out[row] = aggregation.value(integers, moment)
    return out


def _integers(part: Part, rows: Ints) -> list[int | None]:
    values, some = part
    integers: list[int | None] = values[rows].tolist()
    if some is None:
        return integers
    return [value if present else None for value, present in zip(integers, some[rows].tolist(), strict=True)]


def _number(column: Column) -> Finished:
    values, some = column.parts[0]
    numbers = values.astype(np.float64)
    return (numbers if some is None else np.where(some, numbers, np.nan)), None


def _quotient(above: Ints, below: Ints) -> Finished:
    """Quotients; NaN where the divisor is 0."""
    some = below != 0
    quotients = np.divide(above, below, out=_nothing(above), where=some)
    return quotients, (_is_exact(above) & _is_exact(below)) | ~some


def _is_exact(values: Ints) -> Mask:
    return (values <= EXACT) & (values >= -EXACT)


def _mean(column: Column) -> Finished:
    return _quotient(column.parts[1][0], column.parts[0][0])


def _variance(column: Column) -> Finished:
    n, total, squares = (part[0] for part in column.parts)
    size = n.astype(np.float64)
    fits = (
        (np.abs(size * squares) < _ROOMY) & (total.astype(np.float64) ** 2 < _ROOMY) & (size < float(1 << 26))
    )
    n, total, squares = (np.where(fits, part, 0) for part in (n, total, squares))
    variances, sure = _quotient(n * squares - total * total, n * n)
    return variances, fits if sure is None else fits & sure


def _since(column: Column) -> Finished:
    last, some = column.parts[0]
    ago = column.q - last
    return np.where(some, ago / SECOND, np.nan), _is_exact(ago) | ~_all(some, ago)


def _change(column: Column) -> Finished:
    later, earlier = column.parts[0][0], column.parts[1][0]
    fits = (np.abs(later.astype(np.float64)) < _ROOMY) & (np.abs(earlier.astype(np.float64)) < _ROOMY)
    rates, sure = _quotient(np.where(fits, later - earlier, 0), earlier)
    return rates + 0.0, fits if sure is None else fits & sure


def _decayed(column: Column) -> Finished:
    """Dividing by a power of two is exact: the conversion alone rounds."""
    return column.parts[0][0].astype(np.float64) / UNIT, None


def _distinct(column: Column) -> Finished:
    return column.parts[0][0].astype(np.float64), column.parts[0][1]


def _last_k(column: Column) -> Finished:
    """Aggregate the values present as the inner aggregation does."""
    assert isinstance(column.aggregation, LastK)
    some = np.array([_all(present, values) for values, present in column.parts])
    values = np.array([integers for integers, _ in column.parts])
    n = some.sum(axis=0)
    if not ((values < _SMALL) & (values > -_SMALL)).all():
        return _nothing(column.q), np.zeros(len(column.q), np.bool_)
    counted = np.where(some, values, 0)
    inner: dict[type[Aggregation], Callable[[], list[Part]]] = {
        Sum: lambda: [(counted.sum(axis=0), None)],
        Mean: lambda: [(n, None), (counted.sum(axis=0), None)],
        Variance: lambda: [(n, None), (counted.sum(axis=0), None), ((counted**2).sum(axis=0), None)],
        Min: lambda: [(np.where(some, values, _SMALL).min(axis=0), n > 0)],
        Max: lambda: [(np.where(some, values, -_SMALL).max(axis=0), n > 0)],
    }
    of = column.aggregation.of
    return _FAST[type(of)](Column(of, inner[type(of)](), column.q))


def _all(some: Mask | None, like: npt.NDArray[Any]) -> Mask:
    return np.ones(len(like), np.bool_) if some is None else some


_FAST: Final[dict[type[Aggregation], Callable[[Column], Finished]]] = {
    Count: _number,
    Sum: _number,
    Mean: _mean,
    Variance: _variance,
    Min: _number,
    Max: _number,
    First: _number,
    Last: _number,
    LastCategory: _number,
    TimeSinceLast: _since,
    RateOfChange: _change,
    DecayedSum: _decayed,
    Distinct: _distinct,
    LastK: _last_k,
}
"""Vectorized finalizers by exact type: a lender's own subclass may finalize differently."""
