"""Dispatch from an aggregation to its family: parts over windows, and the vectorized finalizer.

A new aggregation is two functions and one entry of `FAMILIES` in its family's module; a test requires an entry for
every aggregation of `candor.features.aggregations.REGISTRY`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from candor.features.aggregations import Aggregation
from candor.features.composed import Ratio
from candor.features.windows import Window
from history.asof import decay, distinct, extremes, ordered, sums
from history.asof.finalize import Column, Families, Family, Finished, Floats, by_value, missing
from history.asof.ranges import Ints
from history.asof.selection import Part, ViewWindows


def aggregate(windows: ViewWindows, leaf: Aggregation, window: Window) -> list[Part]:
    """Return a leaf's parts in the order of `leaf.parts`; a lender's own subclass has the parts of its base."""
    for kind in type(leaf).__mro__:
        family = FAMILIES.get(kind)
        if family is not None and family.aggregate is not None:
            return family.aggregate(windows, leaf, window)
    raise TypeError(f"the offline engine does not support {leaf.op}")


def finalize(aggregation: Aggregation, parts: Sequence[Part], q: Ints) -> Floats:
    """Return the feature of every query at its moment `q` (ms).

    By exact type: a lender's own subclass may override `Aggregation.value`.
    """
    family = FAMILIES.get(type(aggregation))
    if family is None or (not family.wide and any(values.dtype == object for values, _ in parts)):
        return by_value(aggregation, parts, q, missing(q), np.arange(len(q)))
    values, sure = family.finalize(Column(aggregation, parts, q))
    return values if sure is None else by_value(aggregation, parts, q, values, np.flatnonzero(~sure))


def _ratio(column: Column) -> Finished:
    assert isinstance(column.aggregation, Ratio)
    of, to = column.aggregation.of, column.aggregation.to
    cut = len(of.parts)
    above, below = finalize(of, column.parts[:cut], column.q), finalize(to, column.parts[cut:], column.q)
    some = (below != 0) & ~np.isnan(below)
    out = missing(column.q)
    np.divide(above, below, out=out, where=some)
    return out, None


FAMILIES: Final[Families] = {
    **sums.FAMILIES,
    **extremes.FAMILIES,
    **ordered.FAMILIES,
    **decay.FAMILIES,
    **distinct.FAMILIES,
    Ratio: Family(None, _ratio, wide=True),
}
"""Every aggregation by its type."""
