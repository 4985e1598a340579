import math

import pytest

from candor import (
    Checkout,
    Count,
    Definitions,
    Entity,
    Event,
    EventType,
    FeatureView,
    Last,
    Money,
    OnDemand,
    Sum,
)
from candor.clock import DAY, HOUR, FixedClock
from candor.errors import DefinitionError, InvalidInput
from candor.features.vector import UNAVAILABLE
from candor.online import MemoryFeatureStore, Retention, ingest, online_features

NOW = 20_000 * DAY
CARD, TERMINAL = Entity("card"), Entity("terminal", hot=True)
PAYMENT = EventType("payment", [CARD, TERMINAL], {"amount": Money()})
CARDS = FeatureView("cards", CARD, [PAYMENT], [Count(), Last("amount")], ["24h"])
TERMINALS = FeatureView("terminals", TERMINAL, [PAYMENT], [Sum("amount")], ["1h", "24h"])
DEFINITIONS = Definitions(entities=[CARD, TERMINAL], events=[PAYMENT], views=[CARDS, TERMINALS])


def paid(number: int, amount: int) -> Event:
    entities = {"card": "c1", "terminal": "t1"}
    return Event(f"p{number}", PAYMENT.name, NOW - number * HOUR, entities, {"amount": amount})


@pytest.fixture
def store() -> MemoryFeatureStore:
    store = MemoryFeatureStore()
    apply(store, *(paid(number, amount) for number, amount in enumerate((5, 7, 11, 13), 1)))
    return store


def apply(store: MemoryFeatureStore, *events: Event) -> None:
    outcome = ingest(events, DEFINITIONS, store, FixedClock(NOW), Retention(event_ids=14 * DAY))
    assert (outcome.refused, outcome.failed) == ({}, {})


def test_features_of_all_views_are_read_by_name_in_declared_order(store):
    features = online_features(DEFINITIONS, store, {"terminal": "t1", "card": "c1"}, NOW)

    assert tuple(features.values) == DEFINITIONS.features
    assert list(features.values.values()) == [4.0, 5.0, 5.0, 36.0]
    assert features.states == {"cards": "present", "terminals": "present"}


def test_who_is_not_named_or_was_never_seen_is_absent(store):
    features = online_features(DEFINITIONS, store, {"card": "c2"}, NOW)

    assert features.states == {"cards": "absent", "terminals": "absent"}
    assert (features.values["cards.count.24h"], features.values["terminals.sum_amount.24h"]) == (0.0, 0.0)
    assert math.isnan(features.values["cards.last_amount.24h"])


def test_what_cannot_be_read_is_unavailable(store):
    store.items = dict.fromkeys(store.items, UNAVAILABLE)
    features = online_features(DEFINITIONS, store, {"card": "c1"}, NOW)

    assert features.states == {"cards": "unavailable", "terminals": "absent"}
    assert math.isnan(features.values["cards.count.24h"])


def test_a_void_takes_its_event_back_from_its_moment_on(store):
    apply(store, paid(1, 5).void(NOW))

    before, after = (online_features(DEFINITIONS, store, {"card": "c1"}, q).values for q in (NOW, NOW + 1))

    assert (before["cards.last_amount.24h"], after["cards.last_amount.24h"]) == (5.0, 7.0)


def test_a_void_is_its_event_with_a_moment_of_its_own():
    event = paid(1, 5)
    void = event.void(NOW)

    assert (void.id, void.entities, void.data, void.occurred_at) == (
        "p1",
        event.entities,
        event.data,
        NOW - HOUR,
    )
    assert (void.voided_at, void.known_at, void.dedup_id) == (NOW, None, "p1~void")


def test_an_entity_that_is_not_declared_is_refused_and_not_absent(store):
    with pytest.raises(InvalidInput, match=r"invalid_field: .* card, terminal\. \(entities\)"):
        online_features(DEFINITIONS, store, {"crad": "c1"}, NOW)


def test_a_token_that_is_no_text_is_refused(store):
    with pytest.raises(InvalidInput, match=r"Expected text\. \(entities\.card\)"):
        online_features(DEFINITIONS, store, {"card": 1}, NOW)


def test_features_of_a_checkout_are_refused_where_there_is_none(store):
    def total(checkout: Checkout, _features):
        return checkout.total

    declared = Definitions(
        entities=[CARD, TERMINAL], events=[PAYMENT], views=[CARDS], on_demand=[OnDemand("total", total)]
    )
    with pytest.raises(DefinitionError, match=r'"request\.total" is computed from a checkout'):
        online_features(declared, store, {"card": "c1"}, NOW)
