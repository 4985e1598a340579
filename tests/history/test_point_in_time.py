"""The set-based engine against a naive loop over the definition of a window."""

from __future__ import annotations

import math
import random
import struct
from fractions import Fraction
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from msgspec.structs import replace

from candor import (
    Checkout,
    Count,
    DecayedSum,
    Definitions,
    Delayed,
    Distinct,
    Entity,
    EventType,
    FeatureView,
    First,
    Integer,
    Json,
    Last,
    LastCategory,
    LastK,
    Max,
    Mean,
    Min,
    Money,
    OnDemand,
    RateOfChange,
    Ratio,
    Sum,
    Text,
    TimeSinceLast,
    Variance,
    field,
    type_is,
)
from candor.contracts import Applicant, Application, Event, Offer
from candor.errors import DefinitionError, InvalidInput
from history.asof.events import event_table, query_table
from history.asof.point_in_time import LEAK_MS, PointInTimeQuery, features_as_of, point_in_time
from simulation import oracle
from tests.builders import plain_aggregations
from tests.examples import examples
from tests.pair_join import features_by_join

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
LENGTHS = {
    "1m": MINUTE,
    "4m": 4 * MINUTE,
    "1h": HOUR,
    "24h": DAY,
    "7d": 7 * DAY,
    "14d": 14 * DAY,
    "90d": 90 * DAY,
    "365d": 365 * DAY,
    "731d": 731 * DAY,
}
HOPS = {
    "1m": 10 * SECOND,
    "4m": 10 * SECOND,
    "1h": MINUTE,
    "24h": HOUR,
    "7d": 6 * HOUR,
    "14d": 6 * HOUR,
    "90d": DAY,
    "365d": 7 * DAY,
    "731d": 28 * DAY,
}
T0 = 1_500_000_000_000

CUSTOMER = Entity("customer", "checkout.applicant.token")
MERCHANT = Entity("merchant", "merchant_id")
PAID = EventType(
    "payment.succeeded",
    [CUSTOMER, MERCHANT],
    {
        "amount": Money(),
        "days_late": Integer(optional=True),
        "category": Text(optional=True),
        "basket": Json(optional=True),
    },
)
FAILED = EventType("payment.failed", [CUSTOMER, MERCHANT], {"amount": Money(optional=True)})
IGNORED = EventType("account.flagged", [CUSTOMER], {"amount": Money(optional=True)})

WHERE = st.sampled_from(
    [
        None,
        type_is("payment.failed"),
        field("days_late") > 3,
        field("days_late") != 0,
        (field("amount") >= 0) & type_is("payment.succeeded"),
        field("category") == "books",
        field("category") != "books",
        ~(field("category") == "books"),
        ~type_is("payment.succeeded") | (field("days_late") > 3),
        ~((field("days_late") > 3) | (field("category") == "books")),
    ]
)
AGGREGATIONS = st.one_of(
    st.builds(lambda kind, where: kind(where=where), st.sampled_from([Count, TimeSinceLast]), WHERE),
    st.builds(
        lambda kind, name, where: kind(name, where=where),
        st.sampled_from(plain_aggregations()),
        st.sampled_from(["amount", "days_late"]),
        WHERE,
    ),
    st.builds(
        lambda name, where, exact: Distinct(name, where=where, exact=exact),
        st.sampled_from(["category", "amount"]),
        WHERE,
        st.sampled_from([1, 2, 128]),
    ),
    st.builds(
        lambda of, name, where, k, over: LastK(of(name, where=where), k, over=over),
        st.sampled_from([Sum, Mean, Variance, Min, Max]),
        st.sampled_from(["amount", "days_late"]),
        WHERE,
        st.integers(1, 4),
        st.sampled_from(["values", "events"]),
    ),
    st.builds(
        lambda categories, where: LastCategory("category", categories, where=where),
        st.permutations(["books", "é\u4e2d", "x"]),
        WHERE,
    ),
    st.builds(
        lambda where, of: Ratio(of, Count(where=where)),
        WHERE,
        st.sampled_from([Count(), Sum("amount"), LastK(Mean("amount"), 2), Distinct("category")]),
    ),
)
AGEING = st.one_of(
    st.builds(
        lambda name, half_life, where: DecayedSum(name, half_life, where=where),
        st.sampled_from(["amount", "days_late"]),
        st.sampled_from(["21h", "24h", "7d"]),
        WHERE,
    ),
    st.builds(lambda where: RateOfChange(Count(where=where), "7d"), WHERE),
    st.builds(lambda where: RateOfChange(Sum("amount", where=where), "6d"), WHERE),
    st.just(Ratio(DecayedSum("amount", "7d"), RateOfChange(Count(), "7d"))),
)
WINDOWS = st.lists(st.sampled_from([*LENGTHS, "lifetime"]), min_size=1, max_size=3, unique=True)


def types_of(leaf) -> set[str]:
    """Return the event types that a filter names: a view refuses those that it does not take."""
    conditions = () if leaf.where is None else leaf.where.leaves
    return {name for condition in conditions if condition.spec()[0] == "type" for name in condition.spec()[1]}


@st.composite
def definitions(draw):
    views = []
    for number, entity in enumerate((CUSTOMER, MERCHANT)):
        aggregations = draw(
            st.lists(AGGREGATIONS, min_size=1, max_size=4, unique_by=lambda aggregation: aggregation.label)
        )
        named = {
            name for aggregation in aggregations for leaf in aggregation.leaves for name in types_of(leaf)
        }
        events = [PAID, FAILED] if FAILED.name in named or draw(st.booleans()) else [PAID]
        views.append(FeatureView(f"view{number}", entity, events, aggregations, draw(WINDOWS)))
    ageing = draw(st.lists(AGEING, min_size=1, max_size=3, unique_by=lambda aggregation: aggregation.label))
    views.append(FeatureView("ageing", CUSTOMER, [PAID, FAILED], ageing, ["14d"]))
    with patch("candor.features.definitions.LARGEST_ITEM", 2**62):  # no item is made here
        return Definitions(
            entities=[CUSTOMER, MERCHANT],
            events=[PAID, FAILED, IGNORED],
            views=views,
            on_demand=[OnDemand("share", share)],
        )


def share(checkout: Checkout, features):
    """On-demand feature of the request and a windowed value; missing if that value is."""
    value = next(iter(features.values()))
    return None if math.isnan(value) else value / checkout.total


def moments(q: int):
    """Moments around a query: the edges of every window and the moment itself."""
    edges = [(q - LENGTHS[w]) // HOPS[w] * HOPS[w] for w in LENGTHS] + [q, q + LEAK_MS]
    near = st.builds(lambda edge, step: edge + step, st.sampled_from(edges), st.sampled_from([-1, 0, 1]))
    return st.one_of(near, st.integers(q - 100 * DAY, q + 40 * DAY), st.integers(q - HOUR, q + MINUTE))


AMOUNTS = st.one_of(
    st.integers(-5, 5), st.sampled_from([10**12, -(10**12), 10**12 - 1]), st.integers(-(10**12), 10**12)
)


@st.composite
def happenings(draw, q: int):
    kind = draw(st.sampled_from([PAID, PAID, FAILED, IGNORED]))
    data = {"amount": draw(AMOUNTS)} if kind is PAID or draw(st.booleans()) else {}
    if kind is PAID:
        data |= {"basket": {"sku": 1}, "undeclared": "x"} if draw(st.booleans()) else {}
        data |= {"days_late": draw(st.integers(0, 6))} if draw(st.booleans()) else {}
        data |= (
            {"category": draw(st.sampled_from(["books", "shoes", "é\u4e2d"]))} if draw(st.booleans()) else {}
        )
    entities = {"customer": draw(st.sampled_from(["a", "b"])), "merchant": draw(st.sampled_from(["x", "y"]))}
    if draw(st.booleans()):
        del entities[draw(st.sampled_from(["customer", "merchant"]))]
    identity = draw(
        st.sampled_from(["e1", "e2", "e10", "e\u00e9", "e\U0001f600", "e\uffee", "E1"]) | st.uuids().map(str)
    )
    return Event(identity, kind.name, draw(moments(q)), entities, data, known_at=draw(known(q)))


def known(q: int):
    """A time of knowledge: absent, or any moment; one before the event's own has no effect."""
    return st.none() | moments(q)


def question(row: int, q: int, token: str, merchant: str) -> PointInTimeQuery:
    checkout = Checkout(
        f"chk_{row}", "order", "US", "USD", 300, [], Applicant(token), Offer("pay_in_4", 4, 14)
    )
    return PointInTimeQuery(str(row), q, Application(checkout, merchant))


@st.composite
def worlds(draw):
    q = T0 + draw(st.sampled_from([0, 1, 6 * HOUR, 12_345_678]))
    questions = [
        question(
            row,
            q + draw(st.sampled_from([0, 0, 1, DAY])),
            draw(st.sampled_from("abz")),
            draw(st.sampled_from("xyz")),
        )
        for row in range(draw(st.integers(1, 3)))
    ]
    events = draw(st.lists(happenings(q), max_size=12))
    if events:
        events += [
            replace(voided, voided_at=draw(moments(q)), known_at=draw(known(q)))
            for voided in draw(st.lists(st.sampled_from(events), max_size=4))
        ]
        events += [
            replace(copied, known_at=draw(known(q)))
            for copied in draw(st.lists(st.sampled_from(events), max_size=4))
        ]
    return draw(definitions()), draw(st.permutations(events)), questions


def known_from(event: Event, knowledge: str) -> int:
    own = event.occurred_at if event.voided_at is None else event.voided_at
    return own if knowledge == "ever" or event.known_at is None else max(own, event.known_at)


def naive_inputs(view, window: str, aggregation, events, query: PointInTimeQuery, leak: int, knowledge: str):
    """Return the window's events by definition: [⌊(q−W)/h⌋·h, q), first copy of an id per entity, none voided.

    Nothing counts before it was known, voids included.
    """
    key, seen, gone, inside = view.entity.key_of(query.application), set(), {}, []
    start = (query.q - LENGTHS[window]) // HOPS[window] * HOPS[window] if window != "lifetime" else -math.inf
    types = {kind.name for kind in view.events}
    own_events = [
        event for event in events if event.type in types and event.entities.get(view.entity.name) == key
    ]
    for event in own_events:
        if event.voided_at is not None:
            gone.setdefault(event.id, known_from(event, knowledge))
    for event in own_events:
        if event.voided_at is not None or event.id in seen:
            continue
        seen.add(event.id)
        if gone.get(event.id, math.inf) < query.q + leak or known_from(event, knowledge) >= query.q + leak:
            continue
        if start <= event.occurred_at < query.q + leak and (
            aggregation.where is None or aggregation.where.matches(event)
        ):
            inside.append(event)
    return sorted(inside, key=lambda event: (event.occurred_at, event.id.encode()))


def naive(
    view,
    aggregation,
    window: str,
    events,
    query: PointInTimeQuery,
    leak: int = 0,
    knowledge: str = "at_moment",
) -> float:
    if aggregation.op == "ratio":
        above, below = (
            naive(view, leaf, window, events, query, leak, knowledge) for leaf in aggregation.leaves
        )
        return math.nan if below == 0 or math.isnan(below) else above / below
    inside = naive_inputs(view, window, aggregation, events, query, leak, knowledge)
    return naive_leaf(aggregation, inside, query)


def naive_leaf(aggregation, inside: list[Event], query: PointInTimeQuery) -> float:
    values = [e.data[aggregation.field] for e in inside if e.data.get(aggregation.field) is not None]
    op = aggregation.op
    if op in {"decayed_sum", "rate_of_change"}:
        return oracle.aggregate(aggregation.spec(), inside, query.q)
    if op == "last_k":
        if aggregation.over == "events":
            latest = [e.data.get(aggregation.field) for e in inside[-aggregation.k :]]
            values = [value for value in latest if value is not None]
        op, values = aggregation.of.op, values[-aggregation.k :]
    n = len(values)
    match op:
        case "count" | "sum":
            return float(len(inside) if op == "count" else sum(values))
        case "time_since_last":
            return (query.q - inside[-1].occurred_at) / 1000 if inside else math.nan
        case "distinct":
            few = len(set(values)) <= aggregation.exact
            return float(len(set(values))) if few else oracle.aggregate(aggregation.spec(), inside, query.q)
    if not values:
        return math.nan
    category = None
    if op == "last_category":
        category = aggregation.categories.index(values[-1]) if values[-1] in aggregation.categories else -1
        values = [0]
    mean = Fraction(sum(values), n)
    known = {
        "mean": mean,
        "variance": sum((value - mean) ** 2 for value in values) / n,
        "min": min(values),
        "max": max(values),
        "last_category": category,
        "first": values[0],
        "last": values[-1],
    }
    return float(known[op]) if op in known else oracle.aggregate(aggregation.spec(), inside, query.q)


def bits(values) -> list[bytes]:
    return [struct.pack("<d", math.nan if math.isnan(value) else value) for value in values]


def expected(
    defined: Definitions, events, query: PointInTimeQuery, leak: int = 0, knowledge: str = "at_moment"
) -> list[float]:
    windowed = {
        feature.name: naive(view, feature.aggregation, feature.window.label, events, query, leak, knowledge)
        for view in defined.views
        for feature in view.features
    }
    answer = share(query.application.checkout, windowed)
    return [*windowed.values(), math.nan if answer is None else float(answer)]


@examples(40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(), st.booleans(), st.sampled_from(["at_moment", "ever"]))
def test_equals_a_naive_loop_bit_for_bit(world, leaky, knowledge):
    defined, events, questions = world
    table = point_in_time(defined, events, questions, knowledge=knowledge, leaky=leaky)
    joined = features_by_join(
        defined,
        event_table(defined, events),
        query_table(defined, questions),
        knowledge=knowledge,
        ahead=LEAK_MS if leaky else 0,
    )
    assert table.names == defined.features
    assert table.row_ids == tuple(query.row_id for query in questions)
    for row, query in enumerate(questions):
        wanted = expected(defined, events, query, LEAK_MS if leaky else 0, knowledge)
        assert bits(table.vector(row)) == bits(wanted), list(
            zip(table.names, table.vector(row), wanted, strict=True)
        )
        assert bits(joined[row].tolist())[:-1] == bits(wanted)[:-1]


def one_view(*aggregations, windows=("24h",), entity=CUSTOMER) -> Definitions:
    view = FeatureView("view", entity, [PAID, FAILED], list(aggregations), list(windows))
    return Definitions(entities=[CUSTOMER, MERCHANT], events=[PAID, FAILED, IGNORED], views=[view])


def paid(identity: str, at: int, amount: int, customer: str = "a") -> Event:
    return Event(identity, "payment.succeeded", at, {"customer": customer}, {"amount": amount})


@pytest.mark.parametrize(("offset", "counts"), [(-1, 0.0), (0, 1.0)])
def test_the_left_edge_is_on_the_hop_and_inside(offset, counts):
    q = T0 + 123_456
    edge = (q - DAY) // HOUR * HOUR
    table = point_in_time(one_view(Count()), [paid("e", edge + offset, 1)], [question(0, q, "a", "x")])
    assert table.vector(0) == (counts,)


@pytest.mark.parametrize(("offset", "counts"), [(-1, 1.0), (0, 0.0)])
def test_an_event_at_the_moment_itself_does_not_count(offset, counts):
    table = point_in_time(one_view(Count()), [paid("e", T0 + offset, 1)], [question(0, T0, "a", "x")])
    assert table.vector(0) == (counts,)


def test_the_leaky_join_differs():
    events = [paid("e", T0, 7), paid("f", T0 + LEAK_MS, 7)]
    honest = point_in_time(one_view(Sum("amount")), events, [question(0, T0, "a", "x")])
    leaky = point_in_time(one_view(Sum("amount")), events, [question(0, T0, "a", "x")], leaky=True)
    assert (honest.vector(0), leaky.vector(0)) == ((0.0,), (7.0,))


def test_squares_beyond_64_bits_are_exact():
    events = [paid(str(n), T0 - 1 - n, 10**12 - n % 2) for n in range(1_000)]
    table = point_in_time(one_view(Variance("amount"), Sum("amount")), events, [question(0, T0, "a", "x")])
    assert table.vector(0) == (0.25, float(1_000 * 10**12 - 500))


def test_the_copy_that_arrived_first_counts_and_only_for_its_entity():
    events = [paid("e", T0 - 1, 5), paid("e", T0 - 2, 9), paid("e", T0 - 3, 11, customer="b")]
    queries = [question(0, T0, "a", "x"), question(1, T0, "b", "x")]
    table = point_in_time(one_view(Sum("amount"), Count()), events, queries)
    assert [table.vector(0), table.vector(1)] == [(5.0, 1.0), (11.0, 1.0)]


@pytest.mark.parametrize(("voided_at", "counts"), [(T0 - 1, 0.0), (T0, 1.0)])
@pytest.mark.parametrize("void_first", [False, True])
def test_a_voided_event_does_not_count_from_the_moment_after(voided_at, counts, void_first):
    original = paid("e", T0 - DAY // 2, 5)
    arrived = [original, replace(original, voided_at=voided_at), replace(original, voided_at=T0 - DAY // 2)]
    arrived = [*arrived[1:], original] if void_first else arrived
    table = point_in_time(one_view(Count(), Max("amount")), arrived, [question(0, T0, "a", "x")])
    assert bits(table.vector(0)) == bits((counts, 5.0 if counts else math.nan))


REPLACED = paid("e", T0 + HOUR, 2)
CORRECTION = [
    REPLACED,
    replace(REPLACED, voided_at=T0 + 3 * HOUR, known_at=T0 + 3 * HOUR),
    replace(paid("f", T0 + HOUR, 5), known_at=T0 + 3 * HOUR),
]
"""An event of 1 h is replaced at 3 h by another of the same moment."""


@pytest.mark.parametrize(
    ("hours", "knowledge", "wanted"),
    [(2, "at_moment", 2.0), (2, "ever", 7.0), (4, "at_moment", 5.0), (4, "ever", 5.0)],
)
def test_a_correction_counts_from_when_it_became_known(hours, knowledge, wanted):
    queries = [question(0, T0 + hours * HOUR, "a", "x")]
    table = point_in_time(one_view(Sum("amount")), CORRECTION, queries, knowledge=knowledge)
    assert table.vector(0) == (wanted,)


def test_by_default_nothing_counts_before_it_was_known():
    queries = [question(0, T0 + 2 * HOUR, "a", "x")]
    assert point_in_time(one_view(Sum("amount")), CORRECTION, queries).vector(0) == (2.0,)


@pytest.mark.parametrize(("offset", "counts"), [(-1, 1.0), (0, 0.0)])
def test_an_event_that_became_known_at_the_moment_itself_does_not_count(offset, counts):
    late = replace(paid("e", T0 - HOUR, 1), known_at=T0 + offset)
    assert point_in_time(one_view(Count()), [late], [question(0, T0, "a", "x")]).vector(0) == (counts,)


@pytest.mark.parametrize(("offset", "counts"), [(-1, 0.0), (0, 1.0)])
def test_a_void_that_became_known_at_the_moment_itself_takes_nothing_back(offset, counts):
    original = paid("e", T0 - HOUR, 1)
    void = replace(original, voided_at=T0 - MINUTE, known_at=T0 + offset)
    assert point_in_time(one_view(Count()), [original, void], [question(0, T0, "a", "x")]).vector(0) == (
        counts,
    )


def test_the_copy_that_arrived_first_says_when_an_event_was_known():
    late, early = (replace(paid("e", T0 - HOUR, 1), known_at=T0 + step) for step in (1, -1))
    queries = [question(0, T0, "a", "x")]
    first_late, first_early = (
        point_in_time(one_view(Count()), arrived, queries).vector(0)
        for arrived in ([late, early], [early, late])
    )
    assert (first_late, first_early) == ((0.0,), (1.0,))


def test_a_table_of_before_counts_every_event_from_its_own_moment():
    queries = [question(0, T0 + 2 * HOUR, "a", "x")]
    defined = one_view(Sum("amount"))
    table = event_table(defined, CORRECTION).drop_columns("known_at")
    assert features_as_of(defined, table, query_table(defined, queries)).tolist() == [[7.0]]


def test_one_entity_with_many_events_voids_and_questions():
    rng = random.Random(5)
    events = [paid(f"e{n}", T0 - rng.randrange(20 * DAY), rng.randrange(99)) for n in range(600)]
    voids = [
        replace(event, voided_at=event.occurred_at + rng.randrange(DAY)) for event in rng.sample(events, 60)
    ]
    arrived = [*events, *voids, *rng.sample(events, 50)]
    aggregations = [
        Count(),
        Max("amount"),
        Distinct("amount", exact=20),
        DecayedSum("amount"),
        LastK(Sum("amount"), 3),
        LastK(Sum("amount"), 3, over="events"),
    ]
    defined = one_view(*aggregations, windows=["24h", "14d"])
    queries = [question(row, T0 - rng.randrange(10 * DAY), "a", "x") for row in range(60)]
    table = point_in_time(defined, arrived, queries)
    (view,) = defined.views
    for row, query in enumerate(queries):
        wanted = [naive(view, f.aggregation, f.window.label, arrived, query) for f in view.features]
        assert bits(table.vector(row)) == bits(wanted)


def test_a_void_takes_back_only_its_own_event_and_is_none_itself():
    void = replace(paid("e", T0 - 9, 5), voided_at=T0 - 1)
    others = [paid("f", T0 - 9, 7), paid("e", T0 - 9, 5, customer="b")]
    queries = [question(0, T0, "a", "x"), question(1, T0, "b", "x")]
    table = point_in_time(one_view(Sum("amount"), Count()), [void, *others], queries)
    assert [table.vector(0), table.vector(1)] == [(7.0, 1.0), (5.0, 1.0)]


@pytest.mark.parametrize(
    ("edge", "step", "wanted"),
    [(14 * DAY, -1, 2.0), (14 * DAY, 0, 1.0), (7 * DAY, -1, 1.0), (7 * DAY, 0, 2.5)],
)
def test_both_periods_begin_on_the_hop(edge, step, wanted):
    change, hop = RateOfChange(Sum("amount"), "7d"), 6 * HOUR
    grid = T0 // hop * hop
    events = [paid("earlier", grid - 10 * DAY, 4), paid("later", grid - DAY, 12)]
    events.append(paid("edge", grid - edge + step, 2))
    queries = [question(row, q, "a", "x") for row, q in enumerate((grid, grid + hop - 1))]
    table = point_in_time(one_view(change, windows=["14d", "28d"]), events, queries)
    assert [table.vector(0), table.vector(1)] == [(wanted, wanted)] * 2


def test_a_decayed_sum_of_the_largest_amounts_is_exact():
    decayed = DecayedSum("amount", half_life="1h")
    events = [paid(str(n), T0 - 1 - n * MINUTE, 10**12 - n) for n in range(1_000)]
    table = point_in_time(one_view(decayed, windows=["16h"]), events, [question(0, T0, "a", "x")])
    start = (T0 - 16 * HOUR) // (15 * MINUTE) * 15 * MINUTE
    inside = [event for event in events if event.occurred_at >= start]
    assert table.vector(0) == (oracle.aggregate(decayed.spec(), inside, T0),)


def test_ties_break_by_the_ids_bytes_not_by_arrival():
    identities = ["e\U0001f600", "e\uffee", "E", "e1", "e10", "e\u00e9", "d"]
    events = [paid(identity, T0 - 5, amount) for amount, identity in enumerate(identities)]
    table = point_in_time(one_view(First("amount"), Last("amount")), events, [question(0, T0, "a", "x")])
    ordered = sorted(identities, key=str.encode)
    assert table.vector(0) == (float(identities.index(ordered[0])), float(identities.index(ordered[-1])))


def test_no_row_is_lost_and_an_application_without_the_entity_has_empty_windows():
    device = Entity("device", "checkout.device.fingerprint")
    seen = EventType("device.seen", [device], {"amount": Money()})
    view = FeatureView("devices", device, [seen], [Count(), Mean("amount")], ["lifetime"])
    defined = Definitions(entities=[device], events=[seen], views=[view])
    event = Event("e", "device.seen", T0 - 1, {"device": "d"}, {"amount": 3})
    table = point_in_time(defined, [event], [question(row, T0, "a", "x") for row in range(5)])
    assert table.values.shape == (5, 2)
    assert bits(table.vector(4)) == bits((0.0, math.nan))


def test_an_entity_that_no_application_names_is_asked_for_by_its_token():
    card = Entity("card")
    used = EventType("card.used", [card], {"amount": Money()})
    view = FeatureView("cards", card, [used], [Sum("amount")], ["24h"])
    defined = Definitions(entities=[card], events=[used], views=[view])
    events = [Event("e", "card.used", T0 - 1, {"card": "c"}, {"amount": 3})]
    with pytest.raises(DefinitionError, match='nothing says where they name "card"'):
        point_in_time(defined, events, [question(0, T0, "a", "x")])
    queries = pa.table({"q": [T0, T0 - 1], "entity_card": ["c", "c"]})
    assert features_as_of(defined, event_table(defined, events), queries).tolist() == [[3.0], [0.0]]


NO_ROWS = {
    "a fraction": ({"data": {"amount": 1.5}}, "invalid_field", "[1].data.amount"),
    "a whole float": ({"data": {"amount": 2.0}}, "invalid_field", "[1].data.amount"),
    "a truth value": ({"data": {"amount": True}}, "invalid_field", "[1].data.amount"),
    "digits": ({"data": {"amount": "17"}}, "invalid_field", "[1].data.amount"),
    "beyond 64 bits": ({"data": {"amount": 2**63}}, "invalid_field", "[1].data.amount"),
    "a number as text": ({"data": {"category": 17}}, "invalid_field", "[1].data.category"),
    "an integer key": ({"entities": {"customer": 17}}, "invalid_field", "[1].entities.customer"),
    "an integer key of nobody": ({"entities": {"17": 17}}, "invalid_field", "[1].entities"),
    "an integer id": ({"id": 17}, "invalid_field", "[1].event_id"),
    "half a millisecond": ({"occurred_at": T0 + 0.5}, "invalid_field", "[1].occurred_at"),
    "a void's fraction": ({"voided_at": T0 + 0.5}, "invalid_field", "[1].voided_at"),
    "no such type": ({"type": "payment.lost"}, "unknown_event_type", "[1].type"),
}


@pytest.mark.parametrize(("changed", "code", "where"), NO_ROWS.values(), ids=NO_ROWS)
def test_what_no_column_holds_is_refused_with_its_place_and_never_its_value(changed, code, where):
    """A column of integers would truncate 1.5 to 1 where the online path refuses it."""
    events = [paid("e", T0, 1), replace(paid("f", T0, 1), **changed)]
    with pytest.raises(InvalidInput) as refused:
        event_table(one_view(Count()), events)
    assert (refused.value.code, refused.value.field) == (code, where)
    assert "17" not in str(refused.value)


def test_what_is_not_declared_may_be_anything():
    events = [
        replace(paid("e", T0, 1), data={"amount": None, "basket": 1.5, "other": [1.5]}, entities={"x": "y"})
    ]
    table = event_table(one_view(Count()), events)
    assert table.select(["integer_amount", "entity_customer"]).to_pylist() == [
        {"integer_amount": None, "entity_customer": None}
    ]


def test_no_events_and_no_questions():
    assert point_in_time(one_view(Count()), [], [question(0, T0, "a", "x")]).vector(0) == (0.0,)
    assert point_in_time(one_view(Count()), [paid("e", T0, 1)], []).values.shape == (0, 1)


def test_the_latest_values_and_the_latest_events_differ_where_a_field_is_missing():
    """Amounts 100, 20, missing, 3."""
    amounts = [100, 20, None, 3]
    events = [replace(paid(f"e{n}", T0 - 9 + n, 0), data={"amount": x}) for n, x in enumerate(amounts)]
    defined = one_view(LastK(Sum("amount"), 2), LastK(Sum("amount"), 2, over="events"))
    queries = [question(0, T0, "a", "x")]
    assert point_in_time(defined, events, queries).vector(0) == (23.0, 3.0)
    joined = features_by_join(defined, event_table(defined, events), query_table(defined, queries))
    assert joined.tolist() == [[23.0, 3.0]]


def test_distinct_counts_beyond_the_exact_ones_are_those_of_the_state():
    events = [paid(f"e{n}", T0 - 1 - n, n % 700) for n in range(1_000)]
    defined = one_view(Distinct("amount"), Distinct("amount", exact=1_024, name="exact"))
    sketched, exact = point_in_time(defined, events, [question(0, T0, "a", "x")]).vector(0)
    assert exact == 700.0
    assert sketched == oracle.aggregate(Distinct("amount").spec(), events, T0)
    assert sketched == pytest.approx(exact, rel=0.1)


def test_delayed_windows_equal_the_oracle():
    rng = random.Random(11)
    aggregations = [Count(), Sum("amount"), Max("amount"), Last("amount"), Distinct("amount", exact=4)]
    views = [
        FeatureView("plain", CUSTOMER, [PAID], aggregations, ["7d", Delayed("7d", delay="36h")]),
        FeatureView(
            "late", CUSTOMER, [PAID], aggregations, [Delayed("24h", "1m"), Delayed("lifetime", "7d")]
        ),
        FeatureView("aged", CUSTOMER, [PAID], [DecayedSum("amount", "24h")], [Delayed("7d", delay="7d")]),
    ]
    defined = Definitions(entities=[CUSTOMER, MERCHANT], events=[PAID], views=views)
    events = [paid(f"e{n}", T0 - rng.randrange(20 * DAY), rng.randrange(99)) for n in range(300)]
    events += [replace(event, voided_at=event.occurred_at + DAY) for event in rng.sample(events, 20)]
    queries = [question(row, T0 - rng.randrange(10 * DAY), "a", "x") for row in range(40)]

    table = point_in_time(defined, events, queries)

    for row, query in enumerate(queries):
        wanted = [value for view in views for value in oracle.expected(view, events, "a", query.q)]
        assert bits(table.vector(row)) == bits(wanted), list(
            zip(table.names, table.vector(row), wanted, strict=True)
        )
