"""Range aggregates against loops, and vectorized finalizers against `Aggregation.value`."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor import Count, DecayedSum, LastK, Max, Mean, Min, RateOfChange, Ratio, Sum, TimeSinceLast, Variance
from candor.features.aggregations import REGISTRY
from history.asof import decay, ranges
from history.asof.families import FAMILIES, finalize
from history.asof.ranges import (
    Groups,
    below,
    earliest,
    exact_sum,
    extremes,
    joined,
    latest,
    least_over,
    limbs,
    members,
    running,
    sizes,
    squares,
)
from tests.builders import bits, plain_aggregations
from tests.examples import examples

SMALL = st.integers(-9, 9)
WIDE = st.integers(-(2**63), 2**63 - 1)
EDGES = st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, -(2**63), 3, 0, 1])


def ints(values) -> np.ndarray:
    return np.array(values, np.int64)


@st.composite
def ranged(draw, members=SMALL):
    values = draw(st.lists(members, min_size=1, max_size=40))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, len(values))] * 2), min_size=1, max_size=12))
    starts, ends = zip(*(sorted(pair) for pair in pairs), strict=True)
    return ints(values), ints(starts), ints(ends)


@examples(25)
@given(ranged(WIDE))
def test_sums_of_limbs_and_of_squares_are_exact(drawn):
    values, starts, ends = drawn
    for parts, power in ((limbs(values), 1), (squares(values), 2)):
        sums = joined([(running(part)[ends] - running(part)[starts], shift) for part, shift in parts])
        wanted = [sum(int(v) ** power for v in values[a:b]) for a, b in zip(starts, ends, strict=True)]
        assert sums.tolist() == wanted


@st.composite
def in_runs(draw, members=SMALL):
    """Values, one or two ranges per query, and the values in each query's ranges."""
    values = draw(st.lists(members, min_size=1, max_size=40))
    runs = draw(st.integers(1, 2))
    edges = st.tuples(*[st.integers(0, len(values))] * (2 * runs)).map(sorted)
    rows = draw(st.lists(edges, min_size=1, max_size=12))
    held = [
        [value for run in range(runs) for value in values[row[2 * run] : row[2 * run + 1]]] for row in rows
    ]
    edge = [ints(column) for column in zip(*rows, strict=True)]
    return ints(values), [(edge[2 * run], edge[2 * run + 1]) for run in range(runs)], held


@examples(25)
@given(in_runs(WIDE), in_runs(WIDE))
def test_extremes_of_ranges(drawn, other):
    for choose, naive in ((np.minimum, min), (np.maximum, max)):
        for values, runs, held in (drawn, other):
            twice = extremes(values, [runs, runs[:1]], choose)
            assert twice[0].tolist() == [naive(members_held, default=0) for members_held in held]
            first = [naive(values[a:b].tolist(), default=0) for a, b in zip(*runs[0], strict=True)]
            assert twice[1].tolist() == first


@examples(50)
@given(in_runs(), st.integers(1, 5))
def test_the_first_and_the_last_members(drawn, back):
    values, runs, held = drawn
    assert sizes(runs).tolist() == [len(members_held) for members_held in held]
    positions, some = latest(runs, back)
    assert some.tolist() == [len(members_held) >= back for members_held in held]
    assert values[positions[some]].tolist() == [
        members_held[-back] for members_held in held if len(members_held) >= back
    ]
    positions, some = earliest(runs)
    assert some.tolist() == [bool(members_held) for members_held in held]
    assert values[positions[some]].tolist() == [members_held[0] for members_held in held if members_held]


@pytest.mark.parametrize("short", [0, 3, 64])
@examples(50)
@given(drawn=in_runs(), at_a_time=st.integers(1, 20))
def test_distinct_members_of_two_runs(short, drawn, at_a_time):
    values, runs, held = drawn
    with patch.object(ranges, "SHORT", short), patch.object(ranges, "AT_A_TIME", at_a_time):
        assert Groups(values).distinct(runs).tolist() == [len(set(members_held)) for members_held in held]


@examples(50)
@given(ranged(), st.data())
def test_the_least_of_the_ranges_that_hold_a_position(drawn, data):
    values, starts, ends = drawn
    starts, ends = starts[ends > starts], ends[ends > starts]
    given_ = ints([data.draw(st.integers(0, 99)) for _ in starts])
    wanted = [
        min((v for v, a, b in zip(given_, starts, ends, strict=True) if a <= position < b), default=100)
        for position in range(len(values))
    ]
    assert least_over(len(values), starts, ends, given_, 100).tolist() == wanted


@examples(25)
@given(st.lists(st.tuples(WIDE, WIDE), min_size=1), st.booleans())
def test_sums_that_64_bits_do_not_hold_are_pythons_own(pairs, wide):
    first, other = (np.array(side, object if wide else np.int64) for side in zip(*pairs, strict=True))
    assert exact_sum(first, other).tolist() == [a + b for a, b in pairs]


@pytest.mark.parametrize("short", [0, 3, 64])
@examples(25)
@given(drawn=ranged(), at_a_time=st.integers(1, 20))
def test_distinct_members_by_looking_and_by_search(short, drawn, at_a_time):
    values, starts, ends = drawn
    with patch.object(ranges, "SHORT", short), patch.object(ranges, "AT_A_TIME", at_a_time):
        counts = Groups(values).distinct([(starts, ends)]).tolist()
    assert counts == [len(set(values[a:b].tolist())) for a, b in zip(starts, ends, strict=True)]


@examples(25)
@given(ranged(st.integers(0, 70)), st.data())
def test_members_below_a_bound(drawn, data):
    values, starts, ends = drawn
    bounds = ints([data.draw(st.integers(0, 200)) for _ in starts])
    wanted = [(values[a:b] < bound).sum() for a, b, bound in zip(starts, ends, bounds, strict=True)]
    assert below(values, starts, ends, bounds).tolist() == wanted


@examples(25)
@given(ranged(), st.integers(1, 20))
def test_members_are_all_positions_however_few_at_a_time(drawn, at_a_time):
    _, starts, ends = drawn
    starts, ends = starts[ends > starts], ends[ends > starts]
    with patch.object(ranges, "AT_A_TIME", at_a_time):
        positions = [position for _, _, some in members(starts, ends) for position in some.tolist()]
    assert positions == [position for a, b in zip(starts, ends, strict=True) for position in range(a, b)]


@pytest.mark.parametrize("few", [0, 3, 256])
@examples(25)
@given(drawn=ranged(st.one_of(WIDE, st.integers(-9, 9))), data=st.data())
def test_weighed_sums_by_member_and_by_age(few, drawn, data):
    values, starts, ends = drawn
    steps = ints(sorted(data.draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values)))))
    now = ints([data.draw(st.integers(int(steps[max(b - 1, 0)]) - 1, 10)) for b in ends])
    weights = 2**32 // ints(range(1, 13))

    def edge(age: int) -> np.ndarray:
        first = np.searchsorted(steps, now - age)
        return first if age else np.minimum(first, len(steps))

    with patch.object(decay, "FEW", few):
        sums = decay.decayed_sums(values, (starts, ends), weights, (now, steps), edge)
    ages = [
        [max(int(q - steps[position]), 0) for position in range(a, b)]
        for q, a, b in zip(now, starts, ends, strict=True)
    ]
    wanted = [
        sum(int(v) * int(weights[age]) for v, age in zip(values[a:b], own_ages, strict=True))
        for a, b, own_ages in zip(starts, ends, ages, strict=True)
    ]
    assert sums.tolist() == wanted


AGGREGATIONS = [
    *(kind("x") for kind in plain_aggregations()), Count(), TimeSinceLast(), DecayedSum("x"),
    RateOfChange(Count(), "7d"), Ratio(Sum("x"), Mean("x")), Ratio(Count(), TimeSinceLast()),
    *(LastK(of("x"), 3) for of in (Sum, Mean, Variance, Min, Max)),
    *(LastK(of("x"), 3, over="events") for of in (Sum, Mean, Variance, Min, Max)),
]  # fmt: skip
OPTIONAL = {"min", "max", "first", "last", "last_at", "last_1", "last_2", "last_3"}


@pytest.mark.parametrize("aggregation", AGGREGATIONS, ids=lambda aggregation: aggregation.label)
@examples(25)
@given(data=st.data())
def test_a_column_is_finished_with_the_bits_of_the_one_finaliser(aggregation, data):
    rows = data.draw(st.integers(1, 4))
    members = st.one_of(st.integers(-99, 99), EDGES, WIDE)
    parts, columns = [], []
    for name in aggregation.parts:
        some = np.array([name not in OPTIONAL or data.draw(st.booleans()) for _ in range(rows)])
        low = st.integers(0, 2**31) if name == "n" else members
        values = ints([data.draw(low) for _ in range(rows)])
        parts.append((values, some))
        columns.append([int(v) if present else None for v, present in zip(values, some, strict=True)])
    q = ints([data.draw(st.integers(-(2**61), 2**61)) for _ in range(rows)])
    try:
        wanted = [aggregation.value([column[row] for column in columns], int(q[row])) for row in range(rows)]
    except OverflowError:
        return
    assert bits(finalize(aggregation, parts, q).tolist()) == bits(wanted)


def test_a_subclass_of_the_lender_is_finished_by_its_own_value():
    class Twice(Sum):
        def value(self, parts, q):
            return 2 * super().value(parts, q)

    assert finalize(Twice("x"), [(ints([3]), None)], ints([0])).tolist() == [6.0]
    assert Twice not in FAMILIES


def test_every_aggregation_has_a_family():
    declared = {kind for kind in REGISTRY.values() if kind.__module__.startswith("candor.")}
    assert declared == FAMILIES.keys()
