"""Exact aggregates between two positions of an array, for many ranges `[start, end)` at once.

No cost grows with the product of ranges and members: sums are differences of running sums, extremes combine runs of
powers of two, and members below a bound are counted one bit at a time. Only short ranges are scanned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Range = tuple[Ints, Ints]
"""Positions [start, end) per query."""

Limbs = Sequence[tuple[Ints, int]]
"""Integers beyond 64 bits as a sum of arrays, each shifted left by its number of bits."""

NARROW: Final = 1 << 63
SHORT: Final = 64
"""Ranges of at most this many members are scanned rather than searched."""

AT_A_TIME: Final = 1 << 22
"""Members of short ranges processed together: bounds the memory."""

_HALF: Final = 32
_LOW: Final = np.int64((1 << _HALF) - 1)


def largest(values: Ints) -> int:
    """Largest absolute value, as a Python integer that cannot overflow."""
    return max(abs(int(np.min(values))), abs(int(np.max(values)))) if len(values) else 0


def most(values: Ints, least: int = 0) -> int:
    """Largest value, at least `least`."""
    return max(int(np.max(values)), least) if len(values) else least


def limbs(values: Ints) -> Limbs:
    """Split 64-bit integers into halves whose sums of 2³¹ members fit into 64 bits."""
    return [(values & _LOW, 0), (values >> _HALF, _HALF)]


def squares(values: Ints) -> Limbs:
    """Squares, exact to 128 bits, in halves as in `limbs`."""
    size = np.abs(values).view(np.uint64)  # of −2⁶³ as well: its absolute value wraps onto the same bits
    high, low = size >> np.uint64(_HALF), size & np.uint64(_LOW)
    products = ((low * low, 0), (high * low, _HALF + 1), (high * high, 2 * _HALF))
    return [
        (half.view(np.int64), shift + offset)
        for product, shift in products
        for half, offset in ((product & np.uint64(_LOW), 0), (product >> np.uint64(_HALF), _HALF))
    ]


def running(values: Ints) -> Ints:
    """Sums of all members before each position.

    They wrap around: differences that fit into 64 bits are still exact.
    """
    sums = np.empty(len(values) + 1, np.int64)
    sums[0] = 0
    np.cumsum(values, out=sums[1:])
    return sums


def joined(parts: Limbs) -> npt.NDArray[Any]:
    """Combine limbs into integers: 64-bit if there is one unshifted limb, else Python integers."""
    if len(parts) == 1 and parts[0][1] == 0:
        return parts[0][0]
    return sum(
        (part.astype(object) << shift for part, shift in parts[1:]), parts[0][0].astype(object) << parts[0][1]
    )


def exact_sum(first: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums of integers, as Python integers where 64 bits might overflow."""
    if object in (first.dtype, other.dtype) or largest(first) + largest(other) >= NARROW:
        first, other = first.astype(object), other.astype(object)
    return np.asarray(first + other)


def sizes(ranges: Sequence[Range]) -> Ints:
    """Number of members in each query's ranges together."""
    return reduce(np.add, [ends - starts for starts, ends in ranges])


def latest(ranges: Sequence[Range], back: int = 1) -> tuple[Ints, Mask]:
    """Positions of the `back`-th members from the end (1: the last), and a mask of those that exist."""
    starts, ends = ranges[-1]
    positions, left = ends - back, back - (ends - starts)
    for starts, ends in reversed(ranges[:-1]):
        positions = np.where(left > 0, ends - left, positions)
        left = np.where(left > 0, left - (ends - starts), left)
    return positions, left <= 0


def earliest(ranges: Sequence[Range]) -> tuple[Ints, Mask]:
    """Positions of the first members, and a mask of those that exist."""
    positions, end = ranges[-1]
    some = end > positions
    for starts, ends in reversed(ranges[:-1]):
        positions = np.where(ends > starts, starts, positions)
        some |= ends > starts
    return positions, some


def extremes(
    values: Ints, queries: Sequence[Sequence[Range]], choose: Callable[[Ints, Ints], Ints]
) -> list[Ints]:
    """Smallest or largest member (`choose`: np.minimum or np.maximum) of several queries' ranges; 0 for empty ones."""
    every = [positions for ranges in queries for positions in ranges]
    starts, ends = (np.concatenate([positions[side] for positions in every]) for side in (0, 1))
    chosen = iter(np.split(_extremes(values, starts, ends, choose), len(every)))
    return [_chosen(ranges, [next(chosen) for _ in ranges], choose) for ranges in queries]


def _chosen(ranges: Sequence[Range], values: Sequence[Ints], choose: Callable[[Ints, Ints], Ints]) -> Ints:
    best, some = values[0], ranges[0][1] > ranges[0][0]
    for value, (starts, ends) in zip(values[1:], ranges[1:], strict=True):
        more = ends > starts
        best = np.where(some & more, choose(best, value), np.where(more, value, best))
        some |= more
    return best


def _extremes(values: Ints, starts: Ints, ends: Ints, choose: Callable[[Ints, Ints], Ints]) -> Ints:
    """Cover each range by two runs of a power of two; run lengths double from one power to the next."""
    best = np.zeros(len(starts), np.int64)
    powers = np.frexp((ends - starts).astype(np.float64))[1].astype(np.int64) - 1  # of an empty range: −1
    order = np.argsort(powers, kind="stable")
    bounds = np.searchsorted(powers[order], np.arange(most(powers, -1) + 2))
    runs = values
    for power, (first, last) in enumerate(pairwise(bounds)):
        chosen = order[first:last]
        best[chosen] = choose(runs[starts[chosen]], runs[ends[chosen] - (1 << power)])
        runs = choose(runs[: -(1 << power)], runs[1 << power :])
    return best


def below(keys: Ints, starts: Ints, ends: Ints, bounds: Ints) -> Ints:
    """Number of members smaller than each range's own bound. Keys and bounds are not negative.

    A wavelet matrix (F. Claude and G. Navarro, 2012), one bit of the keys at a time.
    """
    counts = np.zeros(len(starts), np.int64)
    bits = max(most(keys), most(bounds)).bit_length()
    for bit in reversed(range(bits)):
        ones = (keys >> bit) & 1
        before = running(1 - ones)
        low_starts, low_ends = before[starts], before[ends]
        upper = (bounds >> bit) & 1 == 1
        counts += np.where(upper, low_ends - low_starts, 0)
        starts = np.where(upper, before[-1] + starts - low_starts, low_starts)
        ends = np.where(upper, before[-1] + ends - low_ends, low_ends)
        keys = np.concatenate([keys[ones == 0], keys[ones == 1]])
    return counts


def members(starts: Ints, ends: Ints) -> Iterator[tuple[slice, Ints, Ints]]:
    """Yield the positions in ranges: a slice of ranges, where each one's positions begin, and the positions.

    Ranges must not be empty: numpy's reduceat has no empty run.
    """
    reach = np.cumsum(ends - starts)
    first = 0
    while first < len(starts):
        done = int(reach[first - 1]) if first else 0
        last = max(int(np.searchsorted(reach, done + AT_A_TIME, side="right")), first + 1)
        sizes = ends[first:last] - starts[first:last]
        heads = np.cumsum(sizes) - sizes
        yield (
            slice(first, last),
            heads,
            np.repeat(starts[first:last] - heads, sizes) + np.arange(int(sizes.sum())),
        )
        first = last


def least_over(size: int, starts: Ints, ends: Ints, values: Ints, none: int) -> Ints:
    """Least value of the ranges that cover each of `size` positions; `none` where no range does.

    A range is covered by two runs of a power of two, and runs are halved from one power to the next.
    """
    powers = np.frexp((ends - starts).astype(np.float64))[1].astype(np.int64) - 1
    least = np.full(size, none, np.int64)
    for power in reversed(range(most(powers, -1) + 1)):
        half = 1 << power
        if half < size:  # runs of the power above
            np.minimum(least[half:], least[:-half].copy(), out=least[half:])
        chosen = powers == power
        for begins in (starts[chosen], ends[chosen] - half):
            np.minimum.at(least, begins, values[chosen])
    return least


class Groups:
    """Members in groups, sorted once for any number of distinct counts over ranges."""

    def __init__(self, groups: Ints) -> None:
        self._order = np.argsort(groups, kind="stable")
        ordered = groups[self._order]
        self._new = ordered[1:] != ordered[:-1]

    def distinct(self, ranges: Sequence[Range]) -> Ints:
        """Number of distinct groups in each query's one or two ranges."""
        first, *later = ranges
        return reduce(np.add, [self._new_to(first, positions) for positions in later], self._within(*first))

    @cached_property
    def _earlier(self) -> Ints:
        """One more than the position of each member's predecessor in its group; 0 for the first."""
        earlier = np.zeros(len(self._order), np.int64)
        again = ~self._new
        earlier[self._order[1:][again]] = self._order[:-1][again] + 1
        return earlier

    @cached_property
    def _ranks(self) -> Ints:
        """Each member's group number, scaled by more than the number of positions."""
        ranks = np.empty(len(self._order), np.int64)
        ranks[self._order] = running(self._new.astype(np.int64)) * (len(self._order) + 1)
        return ranks

    @cached_property
    def _keys(self) -> Ints:
        """Group and position of every member as one integer, sorted."""
        return self._ranks[self._order] + self._order

    def _within(self, starts: Ints, ends: Ints) -> Ints:
        """Count the members without a predecessor of their group in the range."""
        size = ends - starts
        counts: Ints = np.minimum(size, 1)
        few = np.flatnonzero((size > 1) & (size <= SHORT))
        for some, heads, positions in members(starts[few], ends[few]):
            chosen = few[some]
            bounds = np.repeat(starts[chosen], size[chosen])
            counts[chosen] = np.add.reduceat((self._earlier[positions] <= bounds).astype(np.int64), heads)
        many = np.flatnonzero(size > SHORT)
        if len(many):
            counts[many] = _distinct_in_long(self._earlier, starts[many], ends[many])
        return counts

    def _new_to(self, before: Range, after: Range) -> Ints:
        """Number of distinct groups in each range that the range before it lacks."""
        count = np.zeros(len(after[0]), np.int64)
        some = np.flatnonzero(after[1] > after[0])
        for part, heads, positions in members(after[0][some], after[1][some]):
            query = np.repeat(some[part], np.diff(np.append(heads, len(positions))))
            first = self._earlier[positions] <= after[0][query]
            query, rank = query[first], self._ranks[positions[first]]
            last = self._keys[np.searchsorted(self._keys, rank + before[1][query]) - 1]
            known = (last >= rank + before[0][query]) & (last < rank + before[1][query])
            count += np.bincount(query[~known], minlength=len(count))
        return count


def _distinct_in_long(earlier: Ints, starts: Ints, ends: Ints) -> Ints:
    """As `distinct`, by search, over only the part of the array that these ranges touch."""
    edges: Ints = np.zeros(len(earlier) + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, ends, -1)
    touched: npt.NDArray[np.bool_] = np.cumsum(edges[:-1]) > 0
    position = running(touched.astype(np.int64))
    return below(earlier[touched], position[starts], position[ends], starts + 1)
