"""Exact sums of values weighted by age (`DecayedSum`).

Short ranges are summed member by member; in long ones the values of one age are one difference of running sums. The
cost never grows with queries times members.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial, reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from candor.features.decayed import UNIT, DecayedSum
from candor.features.windows import Window
from history.asof.finalize import Column, Families, Family, Finished
from history.asof.ranges import NARROW, Ints, Limbs, exact_sum, joined, largest, limbs, members, most, running
from history.asof.selection import Part, ViewWindows

FEW: Final = 256
"""Largest range summed member by member, and largest number of products added up in 64 bits."""

_THIRD: Final = 22
_LOW: Final = np.int64((1 << _THIRD) - 1)


def decayed(windows: ViewWindows, leaf: DecayedSum, window: Window) -> list[Part]:
    """Sum of values weighted by age."""
    ranges = windows.within(leaf, window)
    selection = windows.selected(leaf)
    by_age = weights(window.reach // leaf.step + 1)
    steps = windows.queries.q // leaf.step

    def edge(run: int, age: int) -> Ints:
        positions = windows.positions((steps - age) * leaf.step)
        return selection.ranges(positions, positions)[run][0]

    ages = (steps, selection.of(windows.stream.at) // leaf.step)
    values = selection.of(windows.values(leaf))
    sums = [
        decayed_sums(values, positions, by_age, ages, partial(edge, run))
        for run, positions in enumerate(ranges)
    ]
    return [(reduce(exact_sum, sums), None)]


def unscaled(column: Column) -> Finished:
    """Dividing by a power of two is exact: the conversion alone rounds."""
    return column.parts[0][0].astype(np.float64) / UNIT, None


def decayed_sums(
    values: Ints,
    ranges: tuple[Ints, Ints],
    weights: Ints,
    ages: tuple[Ints, Ints],
    edge: Callable[[int], Ints],
) -> npt.NDArray[Any]:
    """Σ value · weights[age] over each range [start, end).

    Weights have at most 33 bits; the oldest age has the last. `ages`: the step of each query and of each value, whose
    difference is the age; values after the query have age 0. `edge(age)`: per query, the position where values of
    that age or younger begin.
    """
    starts, ends = ranges
    sizes = ends - starts
    out: npt.NDArray[Any] = np.zeros(len(starts), object)
    few = np.flatnonzero((sizes > 0) & (sizes <= FEW))
    bound = largest(values) * (most(weights) + 1) * FEW
    parts: Limbs = [(values, 0)] if bound < NARROW else _thirds(values)
    if parts[0][0] is values:
        out = np.zeros(len(starts), np.int64)
    for some, heads, positions in members(starts[few], ends[few]):
        chosen = few[some]
        age = np.repeat(ages[0][chosen], sizes[chosen]) - ages[1][positions]
        weight = weights[np.maximum(age, 0)]
        out[chosen] = joined(
            [(np.add.reduceat(part[positions] * weight, heads), shift) for part, shift in parts]
        )
    many = np.flatnonzero(sizes > FEW)
    if len(many):
        long = _by_age(values, starts[many], ends[many], weights, lambda age: edge(age)[many])
        out = out.astype(object)
        out[many] = long
    return out


def _by_age(
    values: Ints, starts: Ints, ends: Ints, weights: Ints, edge: Callable[[int], Ints]
) -> npt.NDArray[Any]:
    total = np.zeros(len(starts), object)
    sums = [(running(part), shift) for part, shift in limbs(values)]
    later = ends
    for age, weight in enumerate(weights.tolist()):
        begin = np.clip(edge(age), starts, later)
        for part, shift in sums:
            total += (part[later] - part[begin]).astype(object) * weight << shift
        later = begin
    return total


def _thirds(values: Ints) -> Limbs:
    """Split into three limbs whose products with a weight add up 256 times within 64 bits."""
    return [
        (values & _LOW, 0),
        ((values >> _THIRD) & _LOW, _THIRD),
        (values >> (2 * _THIRD), 2 * _THIRD),
    ]


def weights(oldest: int) -> Ints:
    """2^(32 − age/8) by age in eighths of a half-life, rounded to an integer."""
    with localcontext(prec=60):
        return np.array(
            [int((2 ** (32 - Decimal(age) / 8)).to_integral_value()) for age in range(oldest + 1)]
        )


FAMILIES: Final[Families] = {
    DecayedSum: Family(decayed, unscaled),
}
