"""Aggregations by the age of events at the moment of the query: decayed sums and rates of change.

Partials are sums by time bucket: a list of (bucket number, exact integer), ascending, without zeros. A bucket's
weight or side depends on the moment `q`; sums are of integers, so the order of events changes no bit. The bounds on
windows limit the number of buckets, and so the size of a partial.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from math import isqrt
from typing import Any

from candor.errors import DefinitionError
from candor.features.aggregations import (
    LIST,
    NAN,
    NUMBER,
    WIDE,
    Aggregation,
    Count,
    Input,
    Inputs,
    Parts,
    Sum,
    narrow,
    widen,
)
from candor.features.predicates import Predicate
from candor.features.windows import Window, duration, hop

Buckets = Sequence[tuple[int, int]]

BUCKETS_PER_HALF_LIFE = 8
MOST_HALF_LIVES = 16
"""Longest window in half-lives: older events weigh less than 1/65536."""

MOST_PERIODS = 4
"""Longest window of a rate of change in periods, of which two are compared."""

UNIT = 1 << 32
"""Weight of an event of age 0."""


class _Bucketed(Aggregation):
    """Base of both: sums by bucket of `step` ms."""

    empty = ()
    invertible = True
    step: int

    def update(self, partial: Buckets, event: Input) -> Buckets:
        return _added(partial, event[0] // self.step, event[2])

    def update_all(self, partial: Buckets, events: Inputs) -> Buckets:
        moments, _, amounts = events
        buckets = [moment // self.step for moment in moments]
        return _summed(chain(partial, zip(buckets, amounts, strict=True)))

    def remove(self, partial: Buckets, event: Input) -> Buckets:
        return _added(partial, event[0] // self.step, -event[2])

    def merge(self, left: Buckets, right: Buckets) -> Buckets:
        return _summed(chain(left, right)) if left and right else left or right

    def merge_all(self, partials: Sequence[Buckets]) -> Buckets:
        seen = [partial for partial in partials if partial]
        return _summed(chain.from_iterable(seen)) if len(seen) > 1 else next(iter(seen), partials[0])

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        buckets = (span - 1) // self.step + 2
        return LIST + buckets * (NUMBER + WIDE)

    def pack(self, partial: Buckets) -> Any:
        """Flat list, with delta-encoded bucket numbers."""
        steps = (later - earlier for earlier, later in pairwise((0, *(bucket for bucket, _ in partial))))
        sums = (narrow(amount) for _, amount in partial)
        return list(chain.from_iterable(zip(steps, sums, strict=True)))

    def unpack(self, stored: Any) -> Buckets:
        return list(zip(accumulate(stored[::2]), map(widen, stored[1::2]), strict=True))


def _added(partial: Buckets, bucket: int, amount: int) -> Buckets:
    place = bisect_left(partial, (bucket,))
    after = place
    if place < len(partial) and partial[place][0] == bucket:
        amount += partial[place][1]
        after += 1
    return [*partial[:place], *([(bucket, amount)] if amount else []), *partial[after:]]


def _summed(amounts: Iterable[tuple[int, int]]) -> Buckets:
    sums: defaultdict[int, int] = defaultdict(int)
    for bucket, amount in amounts:
        sums[bucket] += amount
    return [(bucket, sums[bucket]) for bucket in sorted(sums) if sums[bucket]]


class DecayedSum(_Bucketed):
    """Exponentially decayed sum of an integer field: weights halve with every `half_life` of age; 0 for no events.

    Age is in whole eighths of the half-life on a fixed grid: ⌊q/g⌋ − ⌊occurred_at/g⌋ steps of g = half_life/8, which
    is a whole number of milliseconds for every valid half-life. The weight of age k is 2^(−k/8), rounded to 32 binary
    digits. Windows hold at most 16 half-lives.
    """

    op = "decayed_sum"
    part_names = ("decayed",)

    def __init__(
        self, field: str, half_life: str = "7d", *, where: Predicate | None = None, name: str | None = None
    ) -> None:
        super().__init__(field, where=where, name=name)
        self.half_life = half_life
        self.step = duration(half_life) // BUCKETS_PER_HALF_LIFE
        if name is None:
            self.label += f"_half_life_{half_life}"

    def spec(self) -> list[Any]:
        return [*super().spec(), self.step * BUCKETS_PER_HALF_LIFE]

    def check_window(self, window: Window) -> None:
        most = MOST_HALF_LIVES * BUCKETS_PER_HALF_LIFE * self.step
        if window.length is None or window.length + window.delay > most:
            raise DefinitionError(
                f"{self.label} over {window.label}: a decayed sum takes windows of at most {MOST_HALF_LIVES} half-lives; "
                f"raise half_life={self.half_life}, or declare it in a view of shorter windows"
            )

    def summary(self, partial: Buckets, q: int) -> Parts:
        now = q // self.step
        return (sum(amount * weight(now - bucket) for bucket, amount in partial),)

    def value(self, parts: Parts, q: int) -> float:
        return (parts[0] or 0) / UNIT


def weight(age: int) -> int:
    """2^(32 − age/8) rounded to a whole number; `age` in eighths of a half-life, 0 beyond 32 of them."""
    return WEIGHTS[max(age, 0)] if age < len(WEIGHTS) else 0


def _eighth_root(number: int) -> int:
    return isqrt(isqrt(isqrt(number)))


# In integers, of twice the weight, so that the last binary digit decides the rounding.
WEIGHTS = [(_eighth_root(1 << (33 * 8 - age)) + 1) // 2 for age in range(32 * 8 + 1)]


class RateOfChange(_Bucketed):
    """Relative change of a count or sum from the previous `period` to the last one.

    `RateOfChange(Count(), "7d")` of 6 events after 4 is 0.5; NaN if the previous period gives 0. The left edges are
    those of windows of one and two periods, on the hop of `period`: later [⌊(q−P)/h⌋·h, q), earlier [⌊(q−2P)/h⌋·h,
    ⌊(q−P)/h⌋·h). The view's windows must hold both, and at most 4 periods.
    """

    op = "rate_of_change"
    part_names = ("later", "earlier")

    def __init__(self, of: Aggregation, period: str = "7d", *, name: str | None = None) -> None:
        if type(of) not in {Count, Sum}:
            raise DefinitionError(f"rate_of_change is of a count or sum, not of {of.op}")
        super().__init__(of.field, where=of.where, name=name or f"{of.label}_change_in_{period}")
        self.of = of
        self.period_label = period
        self.period = duration(period)
        self.step = hop(self.period)

    def spec(self) -> list[Any]:
        return [*super().spec(), self.of.op, self.period, self.step]

    def check_window(self, window: Window) -> None:
        # A window's hop is a multiple of all shorter hops, so with two periods or more its left edge never lies inside
        # the earlier period.
        if window.delay or window.hop == 1:
            raise DefinitionError(
                f"{self.label} over {window.label}: a rate of change has edges of its own, so it takes no delayed and no exact windows"
            )
        if window.length is None or not 2 * self.period <= window.length <= MOST_PERIODS * self.period:
            raise DefinitionError(
                f"{self.label} over {window.label}: a rate of change takes windows of 2 to {MOST_PERIODS} periods of "
                f"{self.period_label}; change the period, or declare it in a view of such windows"
            )

    def summary(self, partial: Buckets, q: int) -> Parts:
        middle, first = ((q - periods * self.period) // self.step for periods in (1, 2))
        later = sum(amount for bucket, amount in partial if bucket >= middle)
        earlier = sum(amount for bucket, amount in partial if first <= bucket < middle)
        return later, earlier

    def value(self, parts: Parts, q: int) -> float:
        later, earlier = parts
        if not earlier:
            return NAN
        return ((later or 0) - earlier) / earlier + 0.0  # 0.0 instead of -0.0 for an unchanged negative sum
