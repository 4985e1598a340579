"""Synchronous views: checkouts of one burst see each other, and nothing is granted past a limit."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from candor.clock import HOUR, SystemClock
from candor.errors import DefinitionError, StoreUnavailable
from candor.features.definitions import Definitions
from candor.features.event_types import MAX_SKEW
from candor.features.state import RING_IDS, ViewState
from candor.features.vector import UNAVAILABLE, Read, Version, decode_items
from candor.features.views import FeatureView
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import Contended, Snapshot
from candor.synchronous import SynchronousViews
from tests.builders import only_key
from tests.decide.bursts import (
    DEFINITIONS,
    LIMIT,
    VELOCITY,
    Counter,
    attempts,
    checkout_decided,
    copies,
    counted,
    customer,
    deliver,
    granted,
    new_store,
    records,
    value,
)
from tests.decide.lending import NOW, RETENTION

AMOUNT = 3_000
FIT = LIMIT // AMOUNT
"""Number of checkouts of this amount that fit below the limit."""


# One after the other


def test_the_next_checkout_of_the_same_millisecond_sees_the_one_before():
    counter = Counter(new_store())
    decisions = [counter.decision(f"k{n}", total=AMOUNT) for n in range(5)]
    assert [decision.q for decision in decisions] == [NOW + n for n in range(5)]
    assert [value(decision, "attempts.count.1h") for decision in decisions] == [0, 1, 2, 3, 4]
    assert [decision.outcome for decision in decisions] == ["approved"] * FIT + ["declined"] * (5 - FIT)


def test_record_and_items_are_one_write():
    store = new_store()
    decision = Counter(store).decision("k", total=AMOUNT)
    assert counted(store) == (1, AMOUNT)
    keys = {only_key(view, "ann") for view in (attempts, granted)}
    assert store.synchronous.items.keys() == keys
    assert store.features.items == {}, "other views learn of it by the bus"
    assert {decision.vector.versions[key] for key in keys} == {None}


def test_a_declined_checkout_counts_as_an_attempt_and_grants_nothing():
    store = new_store()
    assert Counter(store).decision("k", total=LIMIT + 1).outcome == "declined"
    assert counted(store) == (1, 0)


def test_a_retried_checkout_counts_once():
    store = new_store()
    counter = Counter(store)
    first = counter.decide("k", total=AMOUNT)
    assert [counter.decide("k", total=AMOUNT).body for _ in range(3)] == [first.body] * 3
    assert counted(store) == (1, AMOUNT)


def test_customers_do_not_see_each_other():
    counter = Counter(new_store())
    for token in ("ann", "bob"):
        assert value(counter.decision(token, total=AMOUNT, token=token), "attempts.count.1h") == 0


def test_an_entity_that_the_application_does_not_name_has_no_item():
    per_device = FeatureView(
        "per_device",
        DEFINITIONS.entities["device"],
        [checkout_decided],
        attempts.aggregations,
        ["1h"],
        synchronous=True,
    )
    definitions = Definitions(
        entities=DEFINITIONS.entities.values(), events=[checkout_decided], views=[attempts, per_device]
    )
    views = SynchronousViews(definitions, RETENTION)
    store = new_store()
    Counter(store).decide("k", total=AMOUNT, device=None)
    (event,) = copies(store)
    assert "device" not in event.entities
    keys = {"attempts": attempts.item_keys("ann")}
    reads = store.synchronous.load(views.keys(keys))
    items = decode_items(definitions, reads, keys)
    assert views.keys(keys) == list(attempts.item_keys("ann"))
    assert {commit.key for commit in views.commits(event, keys, items, NOW)} <= set(attempts.item_keys("ann"))


def test_the_copy_that_the_bus_brings_counts_no_second_time():
    store = new_store()
    counter = Counter(store)
    for n in range(4):
        counter.decide(f"k{n}", total=AMOUNT)
    before = dict(store.synchronous.items)
    assert not deliver(store, *copies(store), *copies(store)).failed
    assert store.synchronous.items == before
    (key,) = store.features.items
    assert key.startswith("by_device@"), "and reaches the views that only the bus writes"


def test_under_the_replay_clock_the_moment_is_the_one_that_was_asked_for():
    counter = Counter(new_store())
    moment = NOW - HOUR // 2
    again = [counter.decision(f"k{n}", total=AMOUNT, replay_at=moment) for n in range(2)]
    assert [decision.q for decision in again] == [moment, moment]
    assert [value(decision, "attempts.count.1h") for decision in again] == [0, 0]
    later = counter.decision("later", total=AMOUNT, replay_at=moment + 1)
    assert value(later, "attempts.count.1h") == 2


def test_an_item_ahead_of_every_clock_is_unavailable_and_nothing_is_granted_over_it():
    """Otherwise checkouts of one millisecond would not see each other: their moment cannot be after its events."""
    store = new_store()
    counter = Counter(store)
    counter.decide("ahead", total=AMOUNT, replay_at=NOW + MAX_SKEW)
    decision = counter.decision("k", total=AMOUNT)
    assert decision.q == NOW
    assert decision.vector.states["attempts"] == decision.vector.states["granted"] == "unavailable"
    assert (decision.outcome, decision.rules) == ("action_required", ["synchronous_unavailable"])
    within = new_store()
    Counter(within).decide("ahead", total=AMOUNT, replay_at=NOW + MAX_SKEW - 1)
    assert Counter(within).decision("k", total=AMOUNT).q == NOW + MAX_SKEW


# At once


@pytest.mark.parametrize("seed", range(3))
def test_of_fifty_at_once_the_limit_holds_and_every_attempt_counts(seed):
    store, together = new_store(), threading.Barrier(50)
    counters = [Counter(store, SystemClock()) for _ in range(50)]

    def ask(place: int) -> str:
        together.wait(timeout=30)
        decision = counters[place].decision(f"k{seed}-{place}", total=AMOUNT + seed)
        return decision.outcome

    with ThreadPoolExecutor(50) as pool:
        outcomes = Tally(pool.map(ask, range(50)))
    assert outcomes == {"approved": FIT, "declined": 50 - FIT}
    stored = records(store)
    seen = [record["vector"]["values"][0] for record in stored]
    assert seen == list(range(50)), "each sees all that were decided before it"
    assert all(earlier["q"] < later["q"] for earlier, later in pairwise(stored))
    fast = [place for place, record in enumerate(stored) if "velocity" in record["rules"]]
    assert fast == list(range(VELOCITY, 50))
    assert counted(store, q=stored[-1]["q"] + 1) == (50, FIT * (AMOUNT + seed))


def test_of_fifty_at_once_with_ten_keys_ten_are_counted():
    store, together = new_store(), threading.Barrier(50)
    counters = [Counter(store) for _ in range(50)]

    def ask(place: int) -> tuple[int, bytes]:
        together.wait(timeout=30)
        return place % 10, counters[place].decide(f"k{place % 10}", total=AMOUNT).body

    with ThreadPoolExecutor(50) as pool:
        answers = set(pool.map(ask, range(50)))
    assert len(answers) == len(store.decisions) == 10
    assert counted(store) == (10, FIT * AMOUNT)


# When another is faster


class Overtaken(MemoryDecisionStore):
    """Lets another checkout through before each of the first `times` writes; may withhold the current items."""

    def __init__(self, times: int, *, tells: bool = True) -> None:
        super().__init__(MemoryFeatureStore())
        self.times, self.tells = times, tells
        self.reads = 0
        self.rival = Counter(self)

    def read(self, keys, timeout_s, synchronous=()):
        self.reads += 1
        return super().read(keys, timeout_s, synchronous)

    def record(self, decision, timeout_s, commits=()):
        if self.times > 0:
            turn, self.times = self.times, 0
            self.rival.decide(f"rival{turn}", total=AMOUNT)
            self.times = turn - 1
        result = super().record(decision, timeout_s, commits)
        return Contended({}) if isinstance(result, Contended) and not self.tells else result


@pytest.mark.parametrize("tells", [True, False])
def test_who_is_overtaken_decides_again_on_what_now_stands(tells):
    store = Overtaken(FIT, tells=tells)
    decision = Counter(store).decision("k", total=AMOUNT)
    assert (decision.outcome, decision.rules) == ("declined", ["limit"])
    assert value(decision, "attempts.count.1h") == FIT
    assert {version.n for version in decision.vector.versions.values() if version} == {FIT}
    assert counted(store) == (FIT + 1, FIT * AMOUNT)
    assert store.reads == (FIT + 1) + (0 if tells else FIT), "what the failure told is not read again"


def test_who_is_overtaken_until_the_deadline_has_decided_nothing():
    class Busy(MemoryDecisionStore):
        def record(self, decision, timeout_s, commits=()):
            return Contended({})

    store = Busy(MemoryFeatureStore())
    with pytest.raises(StoreUnavailable, match="until the deadline"):
        Counter(store).decide("k", seconds=0.03, total=AMOUNT)
    assert store.decisions == {}
    assert store.synchronous.items == {}


class Lost(MemoryDecisionStore):
    """Loses the response of the first write, which was applied or not."""

    def __init__(self, *, written: bool) -> None:
        super().__init__(MemoryFeatureStore())
        self.written, self.first = written, True

    def record(self, decision, timeout_s, commits=()):
        if not self.first:
            return super().record(decision, timeout_s, commits)
        self.first = False
        if self.written:
            super().record(decision, timeout_s, commits)
        raise StoreUnavailable("no answer")


@pytest.mark.parametrize("written", [True, False])
def test_a_write_with_an_unknown_end_is_safe_to_retry(written):
    store = Lost(written=written)
    counter = Counter(store)
    with pytest.raises(StoreUnavailable):
        counter.decide("k", total=AMOUNT)
    assert counted(store) == ((1, AMOUNT) if written else (0, 0))
    retried = counter.decide("k", total=AMOUNT)
    assert retried.replayed is written
    assert counted(store) == (1, AMOUNT)


# When the items cannot be read, or no longer hold all ids


class Unread(MemoryDecisionStore):
    """Cannot read the items of some views."""

    def __init__(self, *lost: str) -> None:
        super().__init__(MemoryFeatureStore())
        self.lost = lost

    def read(self, keys, timeout_s, synchronous=()):
        snapshot = super().read(keys, timeout_s, synchronous)
        gone = {key: UNAVAILABLE for key in synchronous if key.startswith(self.lost)} if self.lost else {}
        return Snapshot({**snapshot.reads, **gone}, snapshot.champion, snapshot.views)


@pytest.mark.parametrize("lost", [("attempts@",), ("granted@",), ("attempts@", "granted@")])
def test_without_a_view_of_the_burst_nothing_is_granted_and_the_bus_makes_up_for_it(lost):
    store = Unread(*lost)
    counter = Counter(store)
    decision = counter.decision("k", total=AMOUNT)
    assert decision.degraded
    assert (decision.outcome, decision.component) == ("action_required", "policy")
    assert decision.rules == ["synchronous_unavailable"]
    written = {key.partition("#")[0].partition("@")[0] + "@" for key in store.synchronous.items}
    assert written == {"attempts@", "granted@"} - set(lost), "never on top of what was not read"
    assert not deliver(store, *copies(store)).failed
    assert counted(store) == (1, 0)
    store.lost = ()
    assert value(counter.decision("k2", total=AMOUNT), "attempts.count.1h") == 1


def test_a_corrupt_item_is_never_written_over():
    store = new_store()
    broken = Read("present", b"\x00garbage\x00", Version(1, 1))
    store.synchronous.items[only_key(granted, "ann")] = broken
    decision = Counter(store).decision("k", total=AMOUNT)
    assert (decision.outcome, decision.vector.states["granted"]) == ("action_required", "unavailable")
    assert store.synchronous.items[only_key(granted, "ann")] == broken


def test_a_decline_stays_a_decline_when_the_burst_cannot_be_seen():
    decision = Counter(Unread("attempts@")).decision("k", total=LIMIT + 1)
    assert (decision.outcome, decision.rules) == ("declined", ["limit"])


def test_more_checkouts_than_an_item_keeps_ids_of_still_count_once_each():
    """Beyond the ring every id is a marker in the same transaction; the bus's copies find the markers."""
    store = new_store()
    counter = Counter(store)
    for n in range(RING_IDS + 20):
        counter.decide(f"k{n}", total=1)
    state = ViewState.decode(attempts, store.synchronous.items[only_key(attempts, "ann")].blob)
    assert state.markers
    assert len(store.synchronous.marks) == 2 * 20
    before = dict(store.synchronous.items)
    assert not deliver(store, *copies(store)).failed
    assert store.synchronous.items == before
    assert counter.decide(f"k{RING_IDS + 19}", total=1).replayed
    assert counted(store)[0] == RING_IDS + 20


def test_more_views_than_a_transaction_takes_are_refused():
    views = [
        FeatureView(f"v{n}", customer, [checkout_decided], attempts.aggregations, ["1h"], synchronous=True)
        for n in range(50)
    ]
    definitions = Definitions(entities=[customer], events=[checkout_decided], views=views)
    with pytest.raises(DefinitionError, match="50 synchronous views do not fit"):
        SynchronousViews(definitions, RETENTION)
