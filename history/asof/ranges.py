"""What lies between two positions of an array, for many ranges `[start, end)` at once and exactly.

Nothing here grows with the product of ranges and members: sums are differences of running sums, extremes come from powers
of two, and members that satisfy a bound are counted bit by bit of the bound. Only what is short is looked at member by member.
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
"""Positions [start, end) for each query."""

Limbs = Sequence[tuple[Ints, int]]
"""Integers as sums of arrays, each shifted by so many bits: what 64 bits would not hold."""

NARROW: Final = 1 << 63
SHORT: Final = 64
"""Ranges of so many members at most are cheaper to look through than to search."""

AT_A_TIME: Final = 1 << 22
"""Members of short ranges that are looked at together: bounds the memory."""

_HALF: Final = 32
_LOW: Final = np.int64((1 << _HALF) - 1)


def largest(values: Ints) -> int:
    """The largest absolute value, as an integer that does not overflow."""
    return max(abs(int(np.min(values))), abs(int(np.max(values)))) if len(values) else 0


def most(values: Ints, least: int = 0) -> int:
    """The largest value, at least this."""
    return max(int(np.max(values)), least) if len(values) else least


def limbs(values: Ints) -> Limbs:
    """Integers of 64 bits in halves whose sums of 2³¹ members fit into 64 bits."""
    return [(values & _LOW, 0), (values >> _HALF, _HALF)]


def squares(values: Ints) -> Limbs:
    """Squares, exact to 128 bits, in halves as `limbs` has them."""
    size = np.abs(values).view(np.uint64)  # of −2⁶³ as well: its absolute value wraps onto the same bits
    high, low = size >> np.uint64(_HALF), size & np.uint64(_LOW)
    products = ((low * low, 0), (high * low, _HALF + 1), (high * high, 2 * _HALF))
    return [
        (half.view(np.int64), shift + place)
        for product, shift in products
        for half, place in ((product & np.uint64(_LOW), 0), (product >> np.uint64(_HALF), _HALF))
    ]


def running(values: Ints) -> Ints:
    """Sums of all members before each position. They wrap: differences that fit into 64 bits are right all the same."""
    sums = np.empty(len(values) + 1, np.int64)
    sums[0] = 0
    np.cumsum(values, out=sums[1:])
    return sums


def joined(parts: Limbs) -> npt.NDArray[Any]:
    """Limbs → the integers: of 64 bits if there is one limb that is not shifted, else Python's own."""
    if len(parts) == 1 and parts[0][1] == 0:
        return parts[0][0]
    return sum(
        (part.astype(object) << shift for part, shift in parts[1:]), parts[0][0].astype(object) << parts[0][1]
    )


def exact_sum(first: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums of integers, as Python's own where 64 bits might not hold them."""
    if object in (first.dtype, other.dtype) or largest(first) + largest(other) >= NARROW:
        first, other = first.astype(object), other.astype(object)
    return np.asarray(first + other)


def sizes(ranges: Sequence[Range]) -> Ints:
    """How many members each query's ranges have together."""
    return reduce(np.add, [ends - starts for starts, ends in ranges])


def latest(ranges: Sequence[Range], back: int = 1) -> tuple[Ints, Mask]:
    """Positions of the members that are `back`-th from the end (1: the last), and which there are."""
    starts, ends = ranges[-1]
    places, left = ends - back, back - (ends - starts)
    for starts, ends in reversed(ranges[:-1]):
        places = np.where(left > 0, ends - left, places)
        left = np.where(left > 0, left - (ends - starts), left)
    return places, left <= 0


def earliest(ranges: Sequence[Range]) -> tuple[Ints, Mask]:
    """Positions of the first members, and which there are."""
    places, end = ranges[-1]
    some = end > places
    for starts, ends in reversed(ranges[:-1]):
        places = np.where(ends > starts, starts, places)
        some |= ends > starts
    return places, some


def extremes(
    values: Ints, queries: Sequence[Sequence[Range]], choose: Callable[[Ints, Ints], Ints]
) -> list[Ints]:
    """The smallest or largest member (`choose` is np.minimum or np.maximum) of several queries' ranges; 0 where there is none."""
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
    """A range is covered by two runs of a power of two; runs are made twice as long from one power to the next."""
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
    """How many members are smaller than each range's own bound. Keys and bounds are not negative.

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
    """The positions that ranges hold: some ranges, where each one's positions begin, and the positions themselves.

    Ranges must not be empty: numpy's reduceat knows no empty run.
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
    """For each of so many positions the least value of the ranges that hold it, `none` where there is no range.

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
    """Members in groups, of which ranges hold some; they are sorted once, whatever is asked of them."""

    def __init__(self, groups: Ints) -> None:
        self._order = np.argsort(groups, kind="stable")
        ordered = groups[self._order]
        self._new = ordered[1:] != ordered[:-1]

    def distinct(self, ranges: Sequence[Range]) -> Ints:
        """How many different groups each query's one or two ranges hold."""
        first, *later = ranges
        return reduce(np.add, [self._new_to(first, positions) for positions in later], self._within(*first))

    @cached_property
    def _earlier(self) -> Ints:
        """For each member one more than the place of the one before it in its group; 0 for the first."""
        earlier = np.zeros(len(self._order), np.int64)
        again = ~self._new
        earlier[self._order[1:][again]] = self._order[:-1][again] + 1
        return earlier

    @cached_property
    def _ranks(self) -> Ints:
        """The number of each member's group times more than there are places."""
        ranks = np.empty(len(self._order), np.int64)
        ranks[self._order] = running(self._new.astype(np.int64)) * (len(self._order) + 1)
        return ranks

    @cached_property
    def _keys(self) -> Ints:
        """Group and place of every member as one integer, sorted."""
        return self._ranks[self._order] + self._order

    def _within(self, starts: Ints, ends: Ints) -> Ints:
        """A member counts where no other of its group stands before it in the range."""
        size = ends - starts
        counts: Ints = np.minimum(size, 1)
        few = np.flatnonzero((size > 1) & (size <= SHORT))
        for some, heads, places in members(starts[few], ends[few]):
            chosen = few[some]
            bounds = np.repeat(starts[chosen], size[chosen])
            counts[chosen] = np.add.reduceat((self._earlier[places] <= bounds).astype(np.int64), heads)
        many = np.flatnonzero(size > SHORT)
        if len(many):
            counts[many] = _distinct_in_long(self._earlier, starts[many], ends[many])
        return counts

    def _new_to(self, before: Range, after: Range) -> Ints:
        """How many different groups each range holds that the range before it does not."""
        count = np.zeros(len(after[0]), np.int64)
        some = np.flatnonzero(after[1] > after[0])
        for part, heads, places in members(after[0][some], after[1][some]):
            query = np.repeat(some[part], np.diff(np.append(heads, len(places))))
            first = self._earlier[places] <= after[0][query]
            query, rank = query[first], self._ranks[places[first]]
            last = self._keys[np.searchsorted(self._keys, rank + before[1][query]) - 1]
            known = (last >= rank + before[0][query]) & (last < rank + before[1][query])
            count += np.bincount(query[~known], minlength=len(count))
        return count


def _distinct_in_long(earlier: Ints, starts: Ints, ends: Ints) -> Ints:
    """As `distinct`, by search, over no more of the array than these ranges touch."""
    edges: Ints = np.zeros(len(earlier) + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, ends, -1)
    touched: npt.NDArray[np.bool_] = np.cumsum(edges[:-1]) > 0
    place = running(touched.astype(np.int64))
    return below(earlier[touched], place[starts], place[ends], starts + 1)
