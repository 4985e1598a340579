"""Online and offline results are bit-identical: the updater's items against SQL over the archived events."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from candor import (
    Count,
    DecayedSum,
    Definitions,
    FeatureView,
    Mean,
    RateOfChange,
    Ratio,
    Sum,
    Variance,
    field,
    type_is,
)
from candor.clock import DAY
from candor.contracts import Applicant, Application, Checkout, Device, Event, Offer
from candor.features.vector import build, decode_items
from candor.store.memory import MemoryFeatureStore
from history.asof.point_in_time import PointInTimeQuery, point_in_time
from tests.builders import (
    NOW,
    bits,
    customer,
    definitions_of,
    failed,
    paid,
    random_event,
    shop,
    take_in,
)

DEFINITIONS = pytest.importorskip("lender").DEFINITIONS


def query_at(number: int, q: int, merchant: str = "merchant") -> PointInTimeQuery:
    checkout = Checkout(
        f"chk_{number}",
        "order",
        "US",
        "USD",
        20_000,
        [],
        Applicant(f"customer_{number}"),
        Offer("pay_in_4", 4, 14),
        device=Device(f"device_{number}"),
    )
    return PointInTimeQuery(f"{number}@{q}", q, Application(checkout, f"{merchant}_{number}"))


def online(definitions: Definitions, store: MemoryFeatureStore, question: PointInTimeQuery) -> list[float]:
    keys = {view.name: view.entity.key_of(question.application) for view in definitions.views}
    items = {view.name: view.item_keys(str(keys[view.name])) for view in definitions.views}
    reads = store.load([key for view_items in items.values() for key in view_items])
    return build(
        definitions, decode_items(definitions, reads, items), items, question.application.checkout, question.q
    ).values


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([1, 40, 250]))
def test_every_declared_feature_has_the_same_bits_online_and_offline(seed, size):
    rng = random.Random(seed)
    near = [NOW - 1, NOW, NOW + 1, NOW - DAY, NOW - 7 * DAY]
    moments = near + [NOW - rng.randrange(200 * DAY) for _ in range(60)]
    events = [random_event(number, DEFINITIONS, moments, rng) for number in range(size)]
    arrived = events + rng.sample(events, size // 3)
    rng.shuffle(arrived)
    questions = [query_at(number, q) for number in range(3) for q in (NOW, NOW + 1, NOW + DAY)]
    assert_parity(DEFINITIONS, arrived, questions, rng.randrange(1, 60))


def assert_parity(
    definitions: Definitions, arrived: list[Event], questions: list[PointInTimeQuery], batch: int
) -> None:
    store = MemoryFeatureStore()
    take_in(arrived, definitions, store, batch=batch)
    offline = point_in_time(definitions, arrived, questions)
    for row, question in enumerate(questions):
        served, wanted = bits(online(definitions, store, question)), bits(offline.vector(row))
        differing = [n for n, a, b in zip(offline.names, served, wanted, strict=True) if a != b]
        assert not differing, question.row_id


REVERSIBLE = [
    Count(),
    Count(where=type_is("payment.failed"), name="failures"),
    Sum("amount"),
    Sum("amount", where=type_is("payment.failed") | ~(field("kind") == "a"), name="unlike"),
    Mean("amount"),
    Variance("amount"),
    Ratio(Count(where=type_is("payment.failed")), Count(), name="share"),
    DecayedSum("amount", half_life="2d"),
    DecayedSum("amount", half_life="14d", where=field("amount") > 0),
    RateOfChange(Count(), "7d"),
    RateOfChange(Sum("amount"), "7d"),
]
"""Aggregations whose events an item can subtract, however long ago they were folded into a tile."""


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([1, 40, 250]))
def test_ageing_features_and_voids_have_the_same_bits_online_and_offline(seed, size):
    rng = random.Random(seed)
    views = [
        FeatureView(f"{entity.name}_trend", entity, [paid, failed], REVERSIBLE, ["14d", "28d"])
        for entity in (customer, shop)
    ]
    definitions = definitions_of(*views)
    moments = [NOW - 1, *(NOW - days * DAY - step for days in (7, 14, 28) for step in (0, 1, -1))]
    moments += [NOW - rng.randrange(28 * DAY) for _ in range(60)]
    events = [random_event(number, definitions, moments, rng) for number in range(size)]
    voids = [
        replace(event, voided_at=rng.randint(event.occurred_at, NOW))
        for event in events
        if rng.random() < 0.3
    ]
    arrived = [*events, *voids, *rng.sample(events, size // 3), *voids[: size // 9]]
    rng.shuffle(arrived)
    questions = [
        query_at(number, q, "shop") for number in range(3) for q in (NOW, NOW + 1, NOW + DAY, NOW + 9 * DAY)
    ]
    assert_parity(definitions, arrived, questions, rng.randrange(1, 60))
