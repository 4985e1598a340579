"""Property tests of every registered aggregation: the laws of the algebra, and values equal to the oracle's."""

import copy
import hashlib
import math
from decimal import Decimal, localcontext
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor import (
    DecayedSum,
    Distinct,
    Entity,
    EventType,
    FeatureView,
    LastCategory,
    LastK,
    Money,
    RateOfChange,
    Ratio,
    Text,
    field,
    type_is,
)
from candor.clock import DAY, HOUR
from candor.contracts import MAX_AMOUNT, Event
from candor.errors import DefinitionError
from candor.features.aggregations import (
    REGISTRY,
    Aggregation,
    Count,
    First,
    Last,
    Max,
    Mean,
    Min,
    Sum,
    TimeSinceLast,
    Variance,
)
from candor.features.decayed import weight
from candor.features.state import ViewState
from candor.features.windows import parse
from simulation.oracle import aggregate, expected
from tests.builders import NOW, bits
from tests.examples import examples

EMPTY_IS_ZERO = ("count", "sum", "distinct", "sketch", "decayed_sum")
FILTERS = {
    "all": None,
    "large": field("x") > 50,
    "type": type_is("b", "c"),
    "both": type_is("a") & (field("k") != "p"),
    "either": type_is("b") | (field("x") > 50),
    "not": ~((field("x") > 50) & (field("k") == "p")),
    "none": field("missing") == 1,
}

AGES = [1, 2, 3, 5 * HOUR, 2 * DAY, 7 * DAY - 1, 7 * DAY, 8 * DAY, 13 * DAY]
LATER = [0, 1, 6 * HOUR, 7 * DAY, 14 * DAY, 230 * DAY, 100 * 365 * DAY]

CUSTOMER = Entity("customer", "checkout.applicant.token")
KINDS = [EventType(name, [CUSTOMER], {"x": Money(optional=True), "k": Text()}) for name in "abc"]

every = pytest.mark.parametrize("op", [*REGISTRY, "last_k_of_events", "sketch", "change_of_count"])
amounts = st.one_of(
    st.integers(-100, 100), st.integers(-MAX_AMOUNT, MAX_AMOUNT), st.sampled_from([-MAX_AMOUNT, MAX_AMOUNT])
)


BUILT = {
    "last_k": lambda where: LastK(Mean("x", where=where), 3),
    "last_k_of_events": lambda where: LastK(Mean("x", where=where), 3, over="events"),
    "last_category": lambda where: LastCategory("k", ["p", "r"], where=where),
    "sketch": lambda where: Distinct("x", exact=2, where=where),
    "rate_of_change": lambda where: RateOfChange(Sum("x", where=where)),
    "change_of_count": lambda where: RateOfChange(Count(where=where)),
    "ratio": lambda where: Ratio(Mean("x", where=where), Sum("x")),
    "count": lambda where: Count(where=where),
    "time_since_last": lambda where: TimeSinceLast(where=where),
}
"""Declarations of operations that need more than a field."""


def build(op: str, where=None) -> Aggregation:
    return BUILT[op](where) if op in BUILT else REGISTRY[op]("x", where=where)


@st.composite
def histories(draw, max_size=9):
    """Events with unique ids, few distinct moments (ties, edges of periods) and optional fields."""
    ids = draw(st.lists(st.text("abéz~😀", min_size=1, max_size=3), unique=True, max_size=max_size))
    events = []
    for event_id in ids:
        data = {"k": draw(st.sampled_from("pq"))}
        if draw(st.booleans()):
            data["x"] = draw(st.none() | amounts)
        events.append(
            Event(event_id, draw(st.sampled_from("abc")), NOW - draw(st.sampled_from(AGES)), {}, data)
        )
    return events


def fold(aggregation: Aggregation, events) -> object:
    partial = aggregation.empty
    for event in events:
        prepared = aggregation.prepare(event)
        if prepared is not None:
            partial = aggregation.update(partial, (event.occurred_at, event.id, prepared))
    return partial


def stored(aggregation: Aggregation, partial) -> bytes:
    return msgspec.msgpack.encode(aggregation.pack(partial))


def value(aggregation: Aggregation, partial, q: int = NOW) -> float:
    return aggregation.value(aggregation.summary(partial, q), q)


@every
@examples(40)
@given(events=histories(), data=st.data())
def test_values_equal_the_oracle_bit_for_bit_in_any_order(op, events, data):
    where = data.draw(st.sampled_from(list(FILTERS.values())))
    aggregation = build(op, where)
    mixed = data.draw(st.permutations(events))
    q = NOW + data.draw(st.sampled_from(LATER))
    assert bits([value(aggregation, fold(aggregation, mixed), q)]) == bits(
        [aggregate(aggregation.spec(), events, q)]
    )


@every
@examples(40)
@given(first=histories(), second=histories(), third=histories())
def test_merge_is_associative_and_commutative_with_a_neutral_element(op, first, second, third):
    aggregation = build(op)
    a, b, c = (fold(aggregation, part) for part in _apart(first, second, third))
    merge = aggregation.merge
    assert stored(aggregation, merge(merge(a, b), c)) == stored(aggregation, merge(a, merge(b, c)))
    assert stored(aggregation, merge(a, b)) == stored(aggregation, merge(b, a))
    assert stored(aggregation, merge(a, aggregation.empty)) == stored(aggregation, a)
    assert stored(aggregation, merge(aggregation.empty, a)) == stored(aggregation, a)


@every
@examples(40)
@given(parts=st.lists(histories(), min_size=1, max_size=4))
def test_many_at_once_are_one_after_the_other(op, parts):
    aggregation = build(op)
    apart = _apart(*parts)
    partials = [fold(aggregation, part) for part in apart]
    one_by_one = partials[0]
    for partial in partials[1:]:
        one_by_one = aggregation.merge(one_by_one, partial)
    assert stored(aggregation, aggregation.merge_all(partials)) == stored(aggregation, one_by_one)
    rest = [
        (event.occurred_at, event.id, prepared)
        for part in apart[1:]
        for event in part
        if (prepared := aggregation.prepare(event)) is not None
    ]
    if rest:
        moments, ids, values = zip(*rest, strict=True)
        together = aggregation.update_all(partials[0], (moments, ids, values))
        assert stored(aggregation, together) == stored(aggregation, one_by_one)
    packed = msgspec.msgpack.decode(
        msgspec.msgpack.encode([aggregation.pack(partial) for partial in partials])
    )
    revived = [stored(aggregation, partial) for partial in aggregation.unpack_all(packed)]
    assert revived == [stored(aggregation, partial) for partial in partials]


def _apart(*histories):
    """Ids are unique over all parts: an event is never in two tiles."""
    return [
        [Event(f"{event.id}{place}", event.type, event.occurred_at, {}, event.data) for event in history]
        for place, history in enumerate(histories)
    ]


@every
@examples(40)
@given(events=histories(), data=st.data())
def test_merging_parts_equals_folding_the_whole(op, events, data):
    aggregation = build(op)
    cut = data.draw(st.integers(0, len(events)))
    parts = fold(aggregation, events[:cut]), fold(aggregation, events[cut:])
    before = copy.deepcopy(parts)
    merged = aggregation.merge(*parts)
    assert stored(aggregation, merged) == stored(aggregation, fold(aggregation, events))
    assert parts == before, "merge changed a partial"


@every
@examples(25)
@given(events=histories(), data=st.data())
def test_neither_order_nor_duplicates_nor_batches_change_an_item(op, events, data):
    view = FeatureView("view", CUSTOMER, KINDS, [build(op, FILTERS["type"])], ["14d", "28d"])
    copies = data.draw(st.lists(st.sampled_from(events), max_size=9)) if events else []
    mixed = data.draw(st.permutations([*events, *copies]))
    size = data.draw(st.integers(1, 9))
    voided, plain = ViewState.new(view), ViewState.new(view)
    for start in range(0, len(mixed), size):
        voided.apply(mixed[start : start + size], NOW, 30 * DAY)
    plain.apply(events, NOW, 30 * DAY)
    wanted = [aggregate(view.aggregations[0].spec(), events, NOW)] * 2
    assert bits(voided.values(NOW)) == bits(plain.values(NOW)) == bits(wanted)
    voided.ring = plain.ring = {}  # which copy came when is all that the ring may tell
    assert voided.encode() == plain.encode()


INVERTIBLE = ("count", "sum", "mean", "variance", "decayed_sum", "rate_of_change")


def remove_all(aggregation: Aggregation, partial, events) -> object:
    for event in events:
        prepared = aggregation.prepare(event)
        if prepared is not None:
            partial = aggregation.remove(partial, (event.occurred_at, event.id, prepared))
    return partial


def test_what_is_invertible_says_so():
    assert {op for op in REGISTRY if build(op).invertible} == {*INVERTIBLE, "ratio"}
    assert Ratio(Count(), Mean("x")).invertible
    assert not Ratio(Count(), Max("x")).invertible


every_invertible = pytest.mark.parametrize(
    "aggregation",
    [*map(build, INVERTIBLE), Ratio(Sum("x", where=FILTERS["large"]), Count())],
    ids=lambda aggregation: aggregation.label,
)


@every_invertible
@examples(40)
@given(events=histories(), data=st.data())
def test_removing_events_is_never_having_seen_them(aggregation, events, data):
    gone = data.draw(
        st.lists(st.sampled_from(events), unique_by=lambda event: event.id) if events else st.just([])
    )
    kept = [event for event in events if event not in gone]
    after = remove_all(aggregation, fold(aggregation, events), gone)
    assert stored(aggregation, after) == stored(aggregation, fold(aggregation, kept))
    assert bits([value(aggregation, after)]) == bits([aggregate(aggregation.spec(), kept, NOW)])


@every_invertible
@examples(40)
@given(events=histories())
def test_a_removal_may_come_before_its_event(aggregation, events):
    negative = remove_all(aggregation, aggregation.empty, events)
    revived = aggregation.unpack(msgspec.msgpack.decode(stored(aggregation, negative)))
    after = aggregation.merge(revived, fold(aggregation, events))
    assert stored(aggregation, after) == stored(aggregation, aggregation.empty)


def test_fewer_than_no_events_are_none():
    gone = [Event("e", "a", NOW - 1, {}, {"x": 5})]
    values = [
        value(build(op), remove_all(build(op), build(op).empty, gone)) for op in ("count", "mean", "variance")
    ]
    assert bits(values) == bits([0.0, math.nan, math.nan])


@every
@examples(40)
@given(events=histories())
def test_partials_survive_the_codec_and_go_on_from_there(op, events):
    aggregation = build(op)
    half = len(events) // 2
    partial = fold(aggregation, events[:half])
    revived = aggregation.unpack(msgspec.msgpack.decode(stored(aggregation, partial)))
    rest = fold(aggregation, events[half:])
    assert stored(aggregation, revived) == stored(aggregation, partial)
    assert stored(aggregation, aggregation.merge(revived, rest)) == stored(
        aggregation, aggregation.merge(partial, rest)
    )
    assert bits([value(aggregation, revived)]) == bits([value(aggregation, partial)])


@every
@examples(20)
@given(events=histories())
def test_summaries_are_exact_integers_named_by_parts(op, events):
    aggregation = build(op)
    summary = aggregation.summary(fold(aggregation, events), NOW)
    assert len(summary) == len(aggregation.parts)
    assert all(part is None or type(part) is int for part in summary)


@every
def test_nothing_seen_and_nothing_matching_give_the_value_of_emptiness(op):
    nothing = 0.0 if op in EMPTY_IS_ZERO else math.nan
    aggregation = build(op, FILTERS["none"])
    events = [Event("e", "a", NOW - 1, {}, {"x": 5, "k": "p"})]
    assert bits([value(aggregation, fold(aggregation, events))]) == bits([nothing])
    assert bits([value(build(op), build(op).empty)]) == bits([nothing])
    assert bits([aggregation.value((None,) * len(aggregation.parts), NOW)]) == bits([nothing])


@every
@pytest.mark.parametrize("sign", [-1, 1])
def test_extreme_amounts_stay_exact(op, sign):
    aggregation = build(op)
    events = [
        Event(f"e{n}", "a", NOW - 50 + n, {}, {"x": sign * (MAX_AMOUNT - n % 3)})
        for n in range(30)
    ]  # fmt: skip
    partial = aggregation.unpack(msgspec.msgpack.decode(stored(aggregation, fold(aggregation, events))))
    assert bits([value(aggregation, partial)]) == bits([aggregate(aggregation.spec(), events, NOW)])


def test_sums_of_squares_beyond_64_and_128_bits_survive_the_codec():
    variance = Variance("x")
    for squares in (2**63 - 1, 2**63, 2**64, 2**127, 10**45, -(2**63), -(2**63) - 1):
        packed = msgspec.msgpack.encode(variance.pack((1, squares, squares)))
        assert variance.unpack(msgspec.msgpack.decode(packed)) == [1, squares, squares]


def test_variance_of_nearly_equal_large_amounts_does_not_cancel():
    variance = Variance("x")
    events = [Event(f"e{n}", "a", NOW - 9, {}, {"x": MAX_AMOUNT - n % 2}) for n in range(10)]
    assert value(variance, fold(variance, events)) == 0.25


@pytest.mark.parametrize("op", ["first", "last"])
def test_ties_break_by_the_bytes_of_the_event_id(op):
    # UTF-16 order, which Java and JavaScript use, would put the emoji first.
    ids = ["\uff5e", "😀"]
    events = [Event(event_id, "a", NOW - 1, {}, {"x": place}) for place, event_id in enumerate(ids)]
    aggregation = build(op)
    wanted = {"first": 0.0, "last": 1.0}[op]
    assert value(aggregation, fold(aggregation, events)) == wanted
    assert value(aggregation, fold(aggregation, events[::-1])) == wanted


@pytest.mark.parametrize("inner", [Sum, Mean, Variance, Min, Max])
@pytest.mark.parametrize("k", [1, 2, 16])
@pytest.mark.parametrize("over", ["values", "events"])
@examples(20)
@given(events=histories(max_size=20))
def test_the_latest_k_of_every_inner_aggregation(inner, k, over, events):
    aggregation = LastK(inner("x"), k, over=over)
    assert bits([value(aggregation, fold(aggregation, events))]) == bits(
        [aggregate(aggregation.spec(), events, NOW)]
    )


@pytest.mark.parametrize("window", ["1h", "lifetime"])
@pytest.mark.parametrize("folded", [False, True])
def test_the_latest_values_and_the_latest_events_differ_where_a_field_is_missing(window, folded):
    """Amounts 100, 20, missing, 3."""
    own_type = type_is("a")
    declared = [
        LastK(Sum("x", where=own_type), 2),
        LastK(Sum("x", where=own_type), 2, over="events"),
        LastK(Mean("x", where=own_type), 1, over="events"),
    ]
    data = [{"x": 100}, {"x": 20}, {}, {"x": 3}]
    events = [Event(f"e{n}", "a", NOW - 600_000 + n, {}, fields) for n, fields in enumerate(data)]
    newer = [Event(f"f{n}", "b", NOW - 40 + n, {}, {"x": 7}) for n in range(40 if folded else 1)]
    view = FeatureView("view", CUSTOMER, KINDS, declared, [window])
    state = ViewState.new(view)
    state.apply([*events, *newer], NOW, DAY)
    assert bool(state.base.tiles) is folded
    assert state.values(NOW) == [23.0, 3.0, 3.0]
    assert ViewState.decode(view, state.encode()).values(NOW) == [23.0, 3.0, 3.0]
    assert math.isnan(value(declared[2], fold(declared[2], events[:3])))


def test_a_missing_value_that_was_never_sent_and_one_that_is_null_are_one():
    aggregation = LastK(Sum("x"), 1, over="events")
    for data in ({}, {"x": None}):
        partial = fold(aggregation, [Event("e", "a", NOW - 1, {}, data)])
        assert stored(aggregation, partial) == msgspec.msgpack.encode([[NOW - 1, "e", False]])
        assert aggregation.summary(partial, NOW) == [None]


@pytest.mark.parametrize(
    "refused",
    [
        lambda: LastK(Sum("x"), 3, over="rows"),
        lambda: LastK(Last("x"), 3),
        lambda: LastK(Sum("x"), 0),
        lambda: LastK(Sum("x"), 17),
        lambda: LastCategory("k", []),
        lambda: Distinct("x", exact=0),
        lambda: LastCategory("k", ["a", "a"]),
        lambda: RateOfChange(Mean("x")),
        lambda: RateOfChange(Count(), "a week"),
        lambda: DecayedSum("x", half_life="0d"),
    ],
    ids=["over", "inner", "none", "many", "no category", "exact", "twice", "of", "period", "half-life"],
)
def test_parameters_that_mean_nothing_are_refused(refused):
    with pytest.raises(DefinitionError):
        refused()


def test_a_ratio_has_no_value_where_the_denominator_is_zero():
    ratio = Ratio(Count(), Sum("x"))
    for amounts, wanted in (([5, -5], math.nan), ([0], math.nan), ([4, 4], 0.25)):
        events = [Event(str(n), "a", NOW - 1, {}, {"x": x}) for n, x in enumerate(amounts)]
        assert bits([value(ratio, fold(ratio, events))]) == bits([wanted])


def test_a_category_is_its_place_and_any_other_is_minus_one():
    latest = LastCategory("k", ["card", "bank"])
    for text, wanted in (("card", 0.0), ("bank", 1.0), ("cash", -1.0)):
        assert value(latest, fold(latest, [Event("e", "a", NOW - 1, {}, {"k": text})])) == wanted


def test_every_parameter_is_part_of_the_spec():
    specs = [
        LastK(Mean("x"), 3), LastK(Mean("x"), 4), LastK(Max("x"), 3), LastK(Mean("x", where=field("x") > 1), 3),
        LastK(Mean("x"), 3, over="events"),
        LastCategory("x", ["a", "b"]), LastCategory("x", ["b", "a"]), Last("x"), Mean("x"),
        Distinct("x"), Distinct("x", exact=127),
        Ratio(Sum("x"), Mean("x")), Ratio(Mean("x"), Sum("x")), Ratio(Sum("x"), Mean("y")),
        Sum("x"), DecayedSum("x"), DecayedSum("x", half_life="1d"),
        RateOfChange(Sum("x")), RateOfChange(Sum("x"), "1d"), RateOfChange(Sum("y")), RateOfChange(Count()),
    ]  # fmt: skip
    assert len({repr(aggregation.spec()) for aggregation in specs}) == len(specs)
    assert LastK(Mean("x"), 3).label == LastK(Mean("x"), 3, over="values").label == "mean_x_of_last_3"
    assert LastK(Mean("x"), 3).spec() == ["last_k", "x", None, "mean", 3]
    assert LastK(Mean("x"), 3, over="events").label == "mean_x_of_last_3_events"
    assert Ratio(Sum("x"), Mean("x")).label == "sum_x_per_mean_x"
    assert DecayedSum("x").label == "decayed_sum_x_half_life_7d"
    assert RateOfChange(Count(), "1d").label == "count_change_in_1d"


def amounts_at(*pairs) -> list[Event]:
    return [Event(f"e{n}", "a", at, {}, {"x": x}) for n, (at, x) in enumerate(pairs)]


def test_a_decayed_sum_halves_with_every_half_life_and_steps_on_the_grid():
    decayed, at = DecayedSum("x", half_life="8h"), NOW // HOUR * HOUR
    for halves, wanted in ((0, 64.0), (1, 32.0), (2, 16.0), (20, 64 / 2**20), (33, 0.0)):
        for happened in (at, at + HOUR - 1):
            partial = fold(decayed, amounts_at((happened, 64)))
            q = at + halves * 8 * HOUR
            assert [value(decayed, partial, moment) for moment in (q, q + HOUR - 1)] == [wanted, wanted]


def test_weights_are_rounded_powers_of_two():
    with localcontext(prec=60):
        wanted = [round(2 ** (32 - Decimal(age) / 8)) for age in range(257)]
    assert [weight(age) for age in range(257)] == wanted
    assert weight(257) == 0


def test_a_rate_of_change_compares_a_period_with_the_one_before():
    change, q = RateOfChange(Count()), NOW // DAY * DAY
    for later, earlier, wanted in ((6, 4, 0.5), (0, 4, -1.0), (3, 0, math.nan), (0, 0, math.nan)):
        events = amounts_at(*[(q - DAY, 1)] * later, *[(q - 8 * DAY, 1)] * earlier)
        assert bits([value(change, fold(change, events), q)]) == bits([wanted])


@pytest.mark.parametrize(("at", "later", "earlier"), [(-14, 0, 1), (-7, 1, 0)])
def test_both_periods_begin_on_the_hop(at, later, earlier):
    change, grid = RateOfChange(Count()), NOW // (6 * HOUR) * 6 * HOUR
    for q in (grid, grid + 6 * HOUR - 1):
        edge = grid + at * DAY
        assert change.summary(fold(change, amounts_at((edge, 1))), q) == (later, earlier)
        assert change.summary(fold(change, amounts_at((edge - 1, 1))), q) == (0, later)


@pytest.mark.parametrize(
    ("aggregation", "windows", "refused"),
    [
        (DecayedSum("x", half_life="1d"), ["1h", "16d"], ["17d", "lifetime"]),
        (RateOfChange(Sum("x"), "7d"), ["14d", "28d"], ["13d", "29d", "lifetime"]),
        (Ratio(RateOfChange(Count(), "1d"), Count()), ["2d", "4d"], ["1d", "5d"]),
    ],
    ids=["decayed", "change", "inside a ratio"],
)
def test_windows_that_would_cut_or_swell_are_refused_with_a_remedy(aggregation, windows, refused):
    FeatureView("view", CUSTOMER, KINDS, [aggregation], windows)
    for window in refused:
        with pytest.raises(DefinitionError, match="declare it in a view of"):
            FeatureView("view", CUSTOMER, KINDS, [aggregation], [*windows, window])


@pytest.mark.parametrize("op", ["decayed_sum", "change_of_count"])
def test_bucketed_partials_are_bounded_by_the_window(op):
    aggregation, window = build(op), parse({"decayed_sum": "112d", "change_of_count": "28d"}[op])
    start = window.start(NOW)
    span = range(start, NOW, 7 * HOUR // 4)
    partial = fold(aggregation, amounts_at(*[(at, 10**12) for at in span]))
    assert len(partial) <= 4 * 28 * 2
    assert len(stored(aggregation, partial)) <= len(partial) * 12 + 16


def test_distinct_tells_integers_from_text_and_merges_equal_values():
    distinct = Distinct("x")
    events = [Event(str(n), "a", NOW - 1, {}, {"x": x}) for n, x in enumerate([1, "1", 1, "", 0, "1"])]
    assert value(distinct, fold(distinct, events)) == 4.0


def test_labels_name_operation_field_and_filter():
    large = field("amount") > 50
    assert Sum("amount").label == "sum_amount"
    assert Last("amount", where=large).label == "last_amount_amount_above_50"
    assert Mean("amount", where=type_is("payment.failed") & (field("days") <= -3)).label == (
        "mean_amount_payment_failed_days_at_most_minus_3"
    )
    assert Max("amount", name="largest").label == "largest"


def test_names_do_not_change_the_spec_and_filters_do():
    assert Min("x", name="least").spec() == Min("x").spec()
    assert Min("x", where=field("x") > 1).spec() != Min("x").spec()


def test_an_item_that_codec_2_wrote_answers_as_one_written_today():
    # The bytes were written by the code of codec 2: 32 events in the head, singles, tiles, 60 ids in the ring.
    aggregations = [
        Count(), Count(where=type_is("b", "c")), Sum("x"), Mean("x"), Variance("x"), Min("x"), Max("x"),
        First("x"), Last("x"), TimeSinceLast(), Distinct("k"), Distinct("x", exact=2, name="about"),
        LastCategory("k", ["p", "r"]), LastK(Mean("x"), 3), Ratio(Sum("x"), Count()),
    ]  # fmt: skip
    view = FeatureView("written", CUSTOMER, KINDS, aggregations, ["1h", "24h", "7d", "lifetime"])
    events = [
        Event(
            f"e{n}",
            "abc"[n % 3],
            NOW - n * n * HOUR // 9,
            {"customer": "ann"},
            {"x": (-1) ** n * 10 ** (n % 13), "k": "pqr"[n % 3]},
        )
        for n in range(60)
    ]
    state = ViewState.decode(view, (Path(__file__).parent / "items" / "codec_2.bin").read_bytes())
    for q in (NOW, NOW + 1, NOW + HOUR, NOW + 8 * DAY):
        assert bits(state.values(q)) == bits(expected(view, events, "ann", q))
    state.apply(events, NOW, 30 * DAY)  # all are duplicates
    late = Event("late", "a", NOW - 3 * DAY, {"customer": "ann"}, {"x": 7, "k": "p"})
    state.apply([late], NOW, 30 * DAY)
    again = ViewState.decode(view, state.encode())
    assert bits(again.values(NOW + 1)) == bits(expected(view, [*events, late], "ann", NOW + 1))


# The number of integers from 0, the registers' digest and the estimate of HyperLogLogPlusPlus(p=10) of datasketch 2.0.0
# over the same BLAKE2b digests.
DATASKETCH = [
    (129, "dc690c07d9dfce15", 127.634),
    (200, "e5ff3a6db8d00173", 199.173),
    (500, "cbcbb3daa4abad94", 508.851),
    (1_000, "154bcece615807f7", 984.945),
    (2_500, "0f02043554b1e118", 2_381.839),
    (5_000, "58284e06266cf612", 5_119.159),
    (20_000, "712fadc556145f61", 20_281.421),
]


@pytest.mark.parametrize(("n", "registers", "estimate"), DATASKETCH)
def test_registers_are_those_of_a_maintained_sketch_and_estimates_are_near(n, registers, estimate):
    distinct = Distinct("x")
    parts = [Event(str(x), "a", NOW - 1, {}, {"x": x}) for x in range(n)]
    partial = distinct.merge(fold(distinct, parts[: n // 3]), fold(distinct, parts[n // 3 :]))
    assert hashlib.blake2b(partial, digest_size=8).hexdigest() == registers
    assert value(distinct, partial) == pytest.approx(estimate, rel=0.03)
    assert value(distinct, partial) == pytest.approx(n, rel=3 * 0.0325)
    assert bits([value(distinct, partial)]) == bits([aggregate(distinct.spec(), parts, NOW)])


@pytest.mark.parametrize("n", [128, 129])
def test_distinct_is_exact_to_the_declared_number_and_more_beyond(n):
    distinct = Distinct("x")
    events = [Event(f"{x}{again}", "a", NOW - 1, {}, {"x": x}) for x in range(n) for again in "ab"]
    partial = fold(distinct, events)
    assert isinstance(partial, bytes) is (n > 128)
    assert value(distinct, partial) == n
