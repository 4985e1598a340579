"""Shared steps from exact integer parts to features, one column at a time, bit-identical to `Aggregation.value`.

Where both integers of a quotient are exactly representable, one float division rounds as Python does. All other rows are
computed by `Aggregation.value` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from candor.features.aggregations import Aggregation
from candor.features.windows import Window
from history.asof.ranges import Ints, Mask
from history.asof.selection import Part, ViewWindows

Floats = npt.NDArray[np.float64]
Finished = tuple[Floats, Mask | None]
"""Features, and a mask of those known to be exact; None: all."""


class Column(NamedTuple):
    """An aggregation's parts for every query, and the queries' moments (ms)."""

    aggregation: Aggregation
    parts: Sequence[Part]
    q: Ints


class Family(NamedTuple):
    """The two sides of an aggregation.

    `aggregate` returns the parts of a leaf over a window in the order of `leaf.parts`; None for an aggregation that is
    no leaf. `finalize` computes a column of features. `wide`: it also takes parts of Python integers.
    """

    aggregate: Callable[[ViewWindows, Any, Window], list[Part]] | None
    finalize: Callable[[Column], Finished]
    wide: bool = False


Families = dict[type[Aggregation], Family]
"""Aggregations by their type."""

EXACT: Final = 1 << 53
"""Integers up to this size are exactly representable as floats."""

ROOMY: Final = float(1 << 62)
"""Bound within which estimates in floats rule out an overflow of 64 bits."""


def number(column: Column) -> Finished:
    """The single part as a float."""
    values, some = column.parts[0]
    numbers = values.astype(np.float64)
    return (numbers if some is None else np.where(some, numbers, np.nan)), None


def quotient(above: Ints, below: Ints) -> Finished:
    """Quotients, and which of them are exact; NaN where the divisor is 0."""
    some = below != 0
    quotients = np.divide(above, below, out=missing(above), where=some)
    return quotients, (is_exact(above) & is_exact(below)) | ~some


def is_exact(values: Ints) -> Mask:
    return (values <= EXACT) & (values >= -EXACT)


def missing(like: npt.NDArray[Any]) -> Floats:
    return np.full(len(like), np.nan)


def by_value(aggregation: Aggregation, parts: Sequence[Part], q: Ints, out: Floats, rows: Ints) -> Floats:
    """Compute these rows by `Aggregation.value` into `out`, and return it."""
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


def all_present(some: Mask | None, like: npt.NDArray[Any]) -> Mask:
    """The mask, or all true."""
    return np.ones(len(like), np.bool_) if some is None else some
