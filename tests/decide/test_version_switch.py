"""A view serves in the version that the pointer names, from the next request on; a rollback likewise."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from candor import Count, Definitions, FeatureView, type_is
from candor.champion import Champions
from candor.clock import DAY, Deadline, FixedClock
from candor.ingest import ingest
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from tests.decide.lending import (
    DEFINITIONS,
    NOW,
    RETENTION,
    SAFE,
    Shelf,
    attempt,
    champion,
    customer,
    decider,
    failed,
    happened,
    paid,
)

OLD = next(view for view in DEFINITIONS.views if view.name == "failed")
NEW = FeatureView(
    "failed", customer, [failed, paid], [Count(where=type_is("payment.succeeded"), name="count")], ["7d"]
)
KEPT = Definitions(
    entities=DEFINITIONS.entities.values(),
    events=DEFINITIONS.event_types.values(),
    views=DEFINITIONS.views,
    candidate_views=[NEW],
    on_demand=DEFINITIONS.on_demand,
)


class CountingStore(MemoryDecisionStore):
    def __init__(self, *, champion: str | None) -> None:
        super().__init__(MemoryFeatureStore(), champion)
        self.reads = 0

    def read(self, keys, timeout_s, synchronous=()):
        self.reads += 1
        return super().read(keys, timeout_s, synchronous)


class Counter:
    """One scorer whose customer's payments failed three times: refused by the declared view, not by the new one."""

    def __init__(self, *bundles) -> None:
        self.shelf = Shelf(*(bundles or [champion()]))
        self.store = CountingStore(champion=champion().sha)
        champions = Champions(KEPT, self.shelf, FixedClock(NOW), self.shelf.failed)
        self.decider = decider(self.store, self.shelf, definitions=KEPT, champions=champions)
        events = [happened(f"e{number}", NOW - DAY) for number in range(3)]
        ingest(events, KEPT, self.store.features, FixedClock(NOW), RETENTION)
        self.requests = 0

    def record(self):
        self.requests += 1
        answer = self.decider.decide(attempt(f"k{self.requests}", total=SAFE), Deadline(60.0))
        return json.loads(self.store.decisions[answer.decision.id].record)


def test_the_request_after_a_flip_reads_the_other_version_and_the_one_after_a_rollback_does_not():
    counter = Counter()
    before = counter.record()
    counter.store.views = {"failed": NEW.version}
    flipped = counter.record()
    counter.store.views = {}
    after = counter.record()
    assert [record["outcome"] for record in (before, flipped, after)] == ["declined", "approved", "declined"]
    assert OLD.item_keys("ann")[0] in before["vector"]["versions"]
    assert NEW.item_keys("ann")[0] in flipped["vector"]["versions"]
    assert OLD.item_keys("ann")[0] not in flipped["vector"]["versions"]
    assert before["definition_hash"] == after["definition_hash"] != flipped["definition_hash"]
    assert {record["bundle"] for record in (before, flipped, after)} == {champion().sha}


def test_a_flip_costs_one_more_read_once():
    counter = Counter()
    counter.record()
    counter.store.views = {"failed": NEW.version}
    counter.store.reads = 0
    counter.record()
    counter.record()
    assert counter.store.reads == 3


def test_a_pointer_that_cannot_be_read_changes_nothing():
    counter = Counter()
    counter.store.views = {"failed": NEW.version}
    counter.record()
    counter.store.views = counter.store.champion = None
    assert counter.record()["outcome"] == "approved"


def test_a_version_that_is_not_kept_is_told_once_and_the_model_keeps_its_own():
    counter = Counter()
    counter.store.views = {"failed": "00000000"}
    assert [counter.record()["outcome"] for _ in range(2)] == ["declined", "declined"]
    assert [str(error) for _, error in counter.shelf.failures] == [
        f'view "failed" is not kept in version 00000000; kept: {OLD.version}, {NEW.version}'
    ]


def test_views_flip_without_a_model_too():
    counter = Counter()
    counter.store.champion = None
    counter.store.views = {"failed": NEW.version}
    assert counter.record()["rules"] != ["failures"]


@pytest.mark.parametrize("deployed", ["before", "after"])
def test_a_model_reads_the_views_that_it_was_trained_on(deployed):
    """A changed view and its model switch in one write, whichever of the two the code declares as served."""
    trained = KEPT.serving({"failed": NEW.version})
    retrained = structs.replace(champion(), definition_hash=trained.hash)
    counter = Counter(champion(), retrained)
    if deployed == "after":
        champions = Champions(trained, counter.shelf, FixedClock(NOW), counter.shelf.failed)
        counter.decider = decider(counter.store, counter.shelf, definitions=trained, champions=champions)
    outcomes = []
    for sha in (champion().sha, retrained.sha, champion().sha):
        counter.store.champion = sha
        outcomes.append((counter.record()["outcome"], counter.record()["bundle"]))
    assert outcomes == [
        ("declined", champion().sha),
        ("approved", retrained.sha),
        ("declined", champion().sha),
    ]
    assert not counter.shelf.failures
