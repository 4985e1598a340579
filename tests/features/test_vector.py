"""The vector: correct states, and values in declared order."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from candor import Entity, OnDemand
from candor.clock import DAY, HOUR, MINUTE
from candor.contracts import parse_checkout
from candor.features.definitions import Definitions
from candor.features.state import ViewState
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version, build, decode_items, view_values
from candor.store.memory import MemoryFeatureStore
from simulation.oracle import expected
from tests.builders import (
    NOW,
    bits,
    customer,
    definitions_of,
    event,
    failed,
    only_key,
    paid,
    shop,
    take_in,
    view_of,
)
from tests.examples import examples

VIEW = view_of(["1h", "lifetime"])
SHOP_VIEW = view_of(["1h"], shop)
ANN = only_key(VIEW, "ann")
MER = SHOP_VIEW.item_keys("mer")
KEPT = VIEW.expiry_ms
CHECKOUT = parse_checkout(
    b'{"checkout_id":"c","merchant_order_id":"o","country":"US","currency":"USD","total":1,'
    b'"items":[{"sku":"s","unit_price":1,"qty":1}],"applicant":{"token":"ann"},'
    b'"offer":{"product":"pay_in_4","installments":4,"period_days":14}}'
)


def read_after(events) -> Read:
    store = MemoryFeatureStore()
    take_in(events, definitions_of(VIEW), store)
    return store.items[ANN]


def test_absent_is_emptiness_with_a_state_of_its_own():
    state, values = view_values(VIEW, [ABSENT], NOW)
    assert state == "absent"
    assert bits(values) == bits(expected(VIEW, [], "ann", NOW))


def test_an_entity_whose_first_event_is_yet_to_come_is_absent():
    read = read_after([event("e", NOW + 1, amount=1)])
    assert view_values(VIEW, [read], NOW)[0] == "absent"
    assert view_values(VIEW, [read], NOW + 1)[0] == "absent"
    assert view_values(VIEW, [read], NOW + 2)[0] == "present"


@pytest.mark.parametrize(
    "read", [UNAVAILABLE, Read("present", b"noise", Version(1, 1)), Read("present", b"", Version(1, 1))]
)
def test_what_cannot_be_read_is_unavailable_and_never_absent(read):
    state, values = view_values(VIEW, [read], NOW)
    assert state == "unavailable"
    assert len(values) == len(VIEW.features)
    assert all(math.isnan(value) for value in values)


def test_a_moment_before_what_was_folded_is_unavailable_rather_than_wrong():
    read = read_after([event(f"e{n}", NOW - n * MINUTE, amount=1) for n in range(60)])
    assert view_values(VIEW, [read], NOW)[0] == "present"
    assert view_values(VIEW, [read], NOW - HOUR)[0] == "unavailable"


def test_the_vector_is_in_declared_order_and_says_what_it_stands_on():
    seen = {}

    def spy(checkout, features):
        seen.update(features)

    definitions = Definitions(
        entities=[customer, shop],
        events=[paid, failed],
        views=[SHOP_VIEW, VIEW],
        on_demand=[OnDemand("total", lambda checkout, features: checkout.total), OnDemand("spy", spy)],
    )
    read = read_after([event("e", NOW - 1, amount=5)])
    keys = {VIEW.name: [ANN], SHOP_VIEW.name: MER}
    reads = {ANN: read, **dict.fromkeys(MER, ABSENT), MER[2]: UNAVAILABLE}
    vector = build(definitions, decode_items(definitions, reads, keys), keys, CHECKOUT, NOW)
    named = dict(zip(definitions.features, vector.values, strict=True))
    assert list(named) == list(definitions.features)
    assert vector.states == {SHOP_VIEW.name: "unavailable", VIEW.name: "present"}
    assert vector.versions == {ANN: read.version, MER[0]: None, MER[1]: None, MER[3]: None}
    assert vector.degraded
    assert named["customer_payments.sum_amount.1h"] == 5.0
    assert math.isnan(named["shop_payments.count.1h"])
    assert named["request.total"] == 1.0
    assert math.isnan(named["request.spy"]), "no answer is a missing value"
    assert list(seen) == [name for name in definitions.features if not name.startswith("request.")]


def test_a_vector_of_absent_entities_is_not_degraded():
    keys, definitions = {VIEW.name: [ANN]}, definitions_of(VIEW)
    items = decode_items(definitions, {ANN: ABSENT}, keys)
    assert not build(definitions, items, keys, CHECKOUT, NOW).degraded


def _division(checkout, features):
    return 1 / (checkout.total - 1)


@pytest.mark.parametrize(
    "fails",
    [
        _division,
        lambda checkout, features: checkout.device.fingerprint,
        lambda checkout, features: features["no.such.feature"],
        lambda checkout, features: 10**400,
        lambda checkout, features: "text",
    ],
    ids=["division by zero", "member of nothing", "unknown feature", "too large", "no number"],
)
def test_an_on_demand_function_that_fails_costs_its_value_and_says_so(fails):
    broken = OnDemand("broken", fails)
    definitions = Definitions(
        entities=[customer],
        events=[paid, failed],
        views=[VIEW],
        on_demand=[broken, OnDemand("total", lambda checkout, features: checkout.total)],
    )
    vector = build(definitions, {}, {}, CHECKOUT, NOW)
    assert math.isnan(vector.values[-2])
    assert math.isnan(broken.value(CHECKOUT, {})), "offline the vector holds the same"
    assert vector.values[-1] == 1.0
    assert vector.states == {VIEW.name: "absent", "request": "unavailable"}
    assert vector.degraded


def sharded_reads(events, batch):
    store = MemoryFeatureStore()
    take_in(events, definitions_of(HOT), store, batch)
    reads = list(store.load(HOT.item_keys("mer")).values())
    assert sum(read.version is not None for read in reads) == min(len(events), 4)
    return reads


HOT = view_of(["10m", "1h", "30d", "lifetime"], shop)
NOT_HOT = view_of(HOT.windows, Entity("shop", "merchant_id"))
"""The same view, of an entity that is not hot: one item."""


@examples(25)
@given(seed=st.integers(0, 2**32), size=st.integers(20, 300), span=st.sampled_from([HOUR, DAY, 60 * DAY]))
def test_four_shards_give_the_bits_of_one_state(seed, size, span):
    rng = random.Random(seed)
    events = [
        event(
            f"e{n}",
            NOW - rng.randrange(span),
            entities={"shop": "mer"},
            amount=rng.randrange(-9, 99),
            kind="a",
        )
        for n in range(size)
    ]
    events += [replace(event, voided_at=NOW) for event in events if event.id in ("e1", "e7")]
    rng.shuffle(events)
    reads = sharded_reads(events, rng.randrange(1, 60))
    whole = ViewState.new(NOT_HOT)
    whole.apply(events, NOW, DAY)
    states = [ViewState.decode(HOT, read.blob) for read in reads]
    for q in (NOW + 1, NOW + MINUTE, NOW + DAY, NOW + 40 * DAY):
        state, values = view_values(HOT, reads, q)
        if not whole.stale and not any(shard.stale for shard in states):
            assert state == "present"
            assert bits(values) == bits(whole.values(q))


def test_one_shard_that_cannot_be_read_makes_the_view_unavailable():
    events = [event(f"e{n}", NOW - n, entities={"shop": "mer"}, amount=1) for n in range(40)]
    reads = sharded_reads(events, 40)
    for lost in (UNAVAILABLE, Read("present", b"noise", Version(1, 1))):
        assert view_values(HOT, [*reads[:3], lost], NOW)[0] == "unavailable"


def test_a_void_lies_in_the_shard_of_its_event():
    opened = event("e", NOW, entities={"shop": "mer"})
    assert HOT.item_key("mer", opened.id) == HOT.item_key("mer", replace(opened, voided_at=NOW).id)
    assert {HOT.item_key("mer", f"e{n}") for n in range(40)} == set(HOT.item_keys("mer"))


def test_an_entity_whose_last_event_is_older_than_the_view_expires_is_absent():
    read = read_after([event("e", NOW - HOUR, amount=5)])
    last = NOW - HOUR + KEPT
    assert view_values(VIEW, [read], last)[0] == "present"
    state, values = view_values(VIEW, [read], last + 1)
    assert state == "absent"
    assert bits(values) == bits(view_values(VIEW, [ABSENT], last + 1)[1]), "as if it were gone"
