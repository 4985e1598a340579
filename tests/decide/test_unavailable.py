"""Failures: decisions without unreadable views say so; without a write there is no decision."""

from __future__ import annotations

import json

import pytest

from candor import Count, Definitions, Entity, EventType, FeatureView, Money
from candor.clock import HOUR, Deadline
from candor.errors import DefinitionError, StoreUnavailable
from candor.features.vector import UNAVAILABLE, Read, Version
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import Snapshot
from tests.builders import only_key
from tests.decide.lending import (
    DEFINITIONS,
    NOW,
    RISKY,
    SAFE,
    Till,
    attempt,
    champion,
    decider,
    happened,
    take_in,
)


class Faulty(MemoryDecisionStore):
    """Loses the reads of some views, or all writes; records the time limits it was given."""

    def __init__(self, *lost: str, pointer: str | None = None) -> None:
        super().__init__(MemoryFeatureStore(), pointer or champion().sha)
        self.lost = lost
        self.writable = True
        self.timeouts: list[float] = []

    def read(self, keys, timeout_s, synchronous=()):
        self.timeouts.append(timeout_s)
        snapshot = super().read(keys, timeout_s, synchronous)
        gone = {key: UNAVAILABLE for key in keys if key.startswith(self.lost)} if self.lost else {}
        return Snapshot({**snapshot.reads, **gone}, snapshot.champion, snapshot.views)

    def record(self, decision, timeout_s, commits=()):
        self.timeouts.append(timeout_s)
        if not self.writable:
            raise StoreUnavailable("the table is away")
        return super().record(decision, timeout_s, commits)


VIEWS = tuple(view.name for view in DEFINITIONS.views)


def test_nothing_readable_is_the_degraded_path():
    till = Till(Faulty(*VIEWS))
    record = till.record(total=10_000)
    assert set(record["vector"]["states"].values()) == {"unavailable"}
    assert record["vector"]["versions"] == {}
    assert (record["degraded"], record["outcome"], record["rules"]) == (
        True,
        "action_required",
        ["unverified"],
    )
    assert record["bundle"] == champion().sha
    assert record["score"] is not None


def test_a_small_amount_is_still_approved_when_nothing_can_be_read():
    assert json.loads(Till(Faulty(*VIEWS)).decide(total=SAFE).body)["outcome"] == "approved"


def test_the_model_may_still_decline_when_nothing_can_be_read():
    record = Till(Faulty(*VIEWS)).record(total=RISKY)
    assert record["rules"] == ["unverified", "score"]
    assert (record["outcome"], record["component"]) == ("declined", "model")
    assert 1 <= len(record["reasons"]) <= 4


@pytest.mark.parametrize("view", VIEWS)
def test_one_lost_view_is_missing_and_the_others_are_not(view):
    till = Till(Faulty(f"{view}@"))
    take_in(till.store.features, happened("e1", NOW - HOUR, "payment.succeeded", amount=70, days_late=2))
    take_in(till.store.features, happened("e2", NOW - HOUR), happened("e3", NOW - 1, "checkout.started"))
    record = till.record(total=SAFE)
    assert {name for name, state in record["vector"]["states"].items() if state == "unavailable"} == {view}
    values = dict(zip(DEFINITIONS.features, record["vector"]["values"], strict=True))
    own = {
        feature.name
        for definition in DEFINITIONS.views
        if definition.name == view
        for feature in definition.features
    }
    assert {name for name, value in values.items() if value is None} == own | {"request.third"}
    assert record["degraded"] is True


def test_a_corrupt_item_is_unavailable_not_absent(till):
    key = only_key(DEFINITIONS.views[0], "ann")
    till.store.features.items[key] = Read("present", b"\x00garbage\x00", Version(1, 1))
    record = till.record(total=SAFE)
    assert record["vector"]["states"]["paid"] == "unavailable"
    assert record["degraded"] is True


def test_an_unwritable_record_decides_nothing():
    till = Till(Faulty())
    till.store.writable = False
    with pytest.raises(StoreUnavailable):
        till.decide(total=SAFE)
    assert till.store.decisions == {}
    till.store.writable = True
    assert not till.decide(total=SAFE).replayed


def test_the_read_gets_half_of_the_time_and_the_write_the_rest():
    till = Till(Faulty())
    till.decider.decide(attempt(total=SAFE), Deadline(8.0))
    read, write = till.store.timeouts
    assert 0.0 < read <= 4.0
    assert read < write <= 8.0


def test_past_the_deadline_the_store_is_given_no_time():
    till = Till(Faulty())
    till.decider.decide(attempt(total=SAFE), Deadline(0.0))
    assert till.store.timeouts == [0.0, 0.0]


def test_a_view_that_no_checkout_can_name_does_not_start():
    """It would silently be absent for everyone."""
    card = Entity("card")
    used = EventType("card.used", [card], {"amount": Money()})
    view = FeatureView("cards", card, [used], [Count()], ["24h"])
    declared = Definitions(entities=[card], events=[used], views=[view])
    with pytest.raises(DefinitionError, match='nothing says where they name "card"'):
        decider(Faulty(), definitions=declared)
