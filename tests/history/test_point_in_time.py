"""The set-based engine against a loop that knows nothing but the definition of a window."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candor import (
    Checkout,
    Count,
    Definitions,
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
    Ratio,
    Sum,
    Text,
    TimeSinceLast,
    Variance,
    field,
    type_is,
)
from candor.contracts import Applicant, Application, Event, Offer
from history.point_in_time import LEAK_MS, Question, point_in_time
from tests import oracle

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
LENGTHS = {"1m": MINUTE, "4m": 4 * MINUTE, "1h": HOUR, "24h": DAY, "7d": 7 * DAY, "90d": 90 * DAY}
HOPS = {"1m": 10 * SECOND, "4m": 10 * SECOND, "1h": MINUTE, "24h": HOUR, "7d": 6 * HOUR, "90d": DAY}
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
    ]
)
AGGREGATIONS = st.one_of(
    st.builds(lambda kind, where: kind(where=where), st.sampled_from([Count, TimeSinceLast]), WHERE),
    st.builds(
        lambda kind, name, where: kind(name, where=where),
        st.sampled_from([Sum, Mean, Variance, Min, Max, First, Last]),
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
        lambda of, name, where, k: LastK(of(name, where=where), k),
        st.sampled_from([Sum, Mean, Variance, Min, Max]),
        st.sampled_from(["amount", "days_late"]),
        WHERE,
        st.integers(1, 4),
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
WINDOWS = st.lists(st.sampled_from([*LENGTHS, "lifetime"]), min_size=1, max_size=3, unique=True)


@st.composite
def definitions(draw):
    views = []
    for number, entity in enumerate((CUSTOMER, MERCHANT)):
        aggregations = draw(st.lists(AGGREGATIONS, min_size=1, max_size=4, unique_by=lambda one: one.label))
        events = draw(st.sampled_from([[PAID], [PAID, FAILED]]))
        views.append(FeatureView(f"view{number}", entity, events, aggregations, draw(WINDOWS)))
    return Definitions(
        entities=[CUSTOMER, MERCHANT],
        events=[PAID, FAILED, IGNORED],
        views=views,
        on_demand=[OnDemand("share", share)],
    )


def share(checkout: Checkout, features):
    """Uses the request and a windowed value; has no answer when that value is missing."""
    value = next(iter(features.values()))
    return None if math.isnan(value) else value / checkout.total


def moments(q: int):
    """Moments around a question, edges of every window and the moment itself included."""
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
    return Event(identity, kind.name, draw(moments(q)), entities, data)


def question(row: int, q: int, token: str, merchant: str) -> Question:
    checkout = Checkout(
        f"chk_{row}", "order", "US", "USD", 300, [], Applicant(token), Offer("pay_in_4", 4, 14)
    )
    return Question(str(row), q, Application(checkout, merchant))


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
    return (
        draw(definitions()),
        [*events, *draw(st.lists(st.sampled_from(events), max_size=4))] if events else [],
        questions,
    )


def naive_inputs(view, window: str, aggregation, events, asked: Question, leak: int):
    """The window's events, straight from its definition: [⌊(q−W)/h⌋·h, q), first copy of an id per entity."""
    key, seen, inside = view.entity.key_of(asked.application), set(), []
    start = (asked.q - LENGTHS[window]) // HOPS[window] * HOPS[window] if window != "lifetime" else -math.inf
    for event in events:
        if (
            event.type not in {kind.name for kind in view.events}
            or event.entities.get(view.entity.name) != key
        ):
            continue
        if event.id in seen:
            continue
        seen.add(event.id)
        if start <= event.occurred_at < asked.q + leak and (
            not aggregation.where or aggregation.where.matches(event)
        ):
            inside.append(event)
    return sorted(inside, key=lambda event: (event.occurred_at, event.id.encode()))


def naive(view, aggregation, window: str, events, asked: Question, leak: int = 0) -> float:
    if aggregation.op == "ratio":
        above, below = (naive(view, one, window, events, asked, leak) for one in aggregation.leaves)
        return math.nan if below == 0 or math.isnan(below) else above / below
    return naive_leaf(view, aggregation, window, events, asked, leak)


def naive_leaf(view, aggregation, window: str, events, asked: Question, leak: int) -> float:
    inside = naive_inputs(view, window, aggregation, events, asked, leak)
    values = [e.data[aggregation.field] for e in inside if e.data.get(aggregation.field) is not None]
    op = aggregation.op
    if op == "last_k":
        op, values = aggregation.of.op, values[-aggregation.k :]
    n = len(values)
    match op:
        case "count":
            return float(len(inside))
        case "time_since_last":
            return (asked.q - inside[-1].occurred_at) / 1000 if inside else math.nan
        case "sum":
            return float(sum(values))
        case "distinct":
            few = len(set(values)) <= aggregation.exact
            return float(len(set(values))) if few else oracle.aggregate(aggregation.spec(), inside, asked.q)
    if not values:
        return math.nan
    category = None
    if op == "last_category":
        category = aggregation.categories.index(values[-1]) if values[-1] in aggregation.categories else -1
        values = [0]
    mean = Fraction(sum(values), n)
    return float(
        {
            "mean": mean,
            "variance": sum((value - mean) ** 2 for value in values) / n,
            "min": min(values),
            "max": max(values),
            "last_category": category,
            "first": values[0],
            "last": values[-1],
        }[op]
    )


def bits(values) -> list[bytes]:
    return [struct.pack("<d", math.nan if math.isnan(value) else value) for value in values]


def expected(defined: Definitions, events, asked: Question, leak: int = 0) -> list[float]:
    windowed = {
        feature.name: naive(view, feature.aggregation, feature.window.label, events, asked, leak)
        for view in defined.views
        for feature in view.features
    }
    answer = share(asked.application.checkout, windowed)
    return [*windowed.values(), math.nan if answer is None else float(answer)]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(worlds(), st.booleans())
def test_equals_a_naive_loop_bit_for_bit(world, leaky):
    defined, events, questions = world
    table = point_in_time(defined, events, questions, leaky=leaky)
    assert table.names == defined.features
    assert table.row_ids == tuple(asked.row_id for asked in questions)
    for row, asked in enumerate(questions):
        wanted = expected(defined, events, asked, LEAK_MS if leaky else 0)
        assert bits(table.vector(row)) == bits(wanted), list(
            zip(table.names, table.vector(row), wanted, strict=True)
        )


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
    asked = [question(0, T0, "a", "x"), question(1, T0, "b", "x")]
    table = point_in_time(one_view(Sum("amount"), Count()), events, asked)
    assert [table.vector(0), table.vector(1)] == [(5.0, 1.0), (11.0, 1.0)]


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


def test_no_events_and_no_questions():
    assert point_in_time(one_view(Count()), [], [question(0, T0, "a", "x")]).vector(0) == (0.0,)
    assert point_in_time(one_view(Count()), [paid("e", T0, 1)], []).values.shape == (0, 1)


def test_distinct_counts_beyond_the_exact_ones_are_those_of_the_state():
    events = [paid(f"e{n}", T0 - 1 - n, n % 700) for n in range(1_000)]
    defined = one_view(Distinct("amount"), Distinct("amount", exact=1_024, name="exact"))
    sketched, exact = point_in_time(defined, events, [question(0, T0, "a", "x")]).vector(0)
    assert exact == 700.0
    assert sketched == oracle.aggregate(Distinct("amount").spec(), events, T0)
    assert sketched == pytest.approx(exact, rel=0.1)
