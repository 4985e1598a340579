"""Every decision's vector is replayed bit for bit; tampered, lost or mixed-up data is reported."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count

import msgspec
import pytest
from msgspec.structs import astuple

from candor import Count, Definitions, FeatureView, Max, Mean, Money, OnDemand, Sum, decided_type
from candor.champion import Champions
from candor.clock import DAY, HOUR, MINUTE, Deadline, FixedClock
from candor.contracts import Event
from candor.decision import Decision, decided, parse_record
from candor.features.event_types import EventType
from candor.features.state import ViewState
from candor.features.vector import UNAVAILABLE
from candor.ingest import ingest
from candor.store.memory import MemoryDecisionStore
from candor.store.protocol import Committed
from history.archive.commits import INCOMPLETE, CommitLog
from history.archive.events import Arrival
from history.archive.items import items_of
from history.rebuild.backfill import Backfill, backfill_commit
from history.rebuild.recompute import held_events, rebuilding_commit
from history.replay.as_served import NOT_ARCHIVED, NOT_KEPT, Replayed, item_versions, replay, versions_read
from tests.builders import NOW, RETENTION, customer, shop
from tests.decide.lending import Shelf, attempt, decider
from tests.decision_tables import row, table
from tests.history.logged import LoggedStore, log_of

paid = EventType("paid", [customer, shop], {"amount": Money()})
checkout_decided = decided_type([customer, shop])
payments = FeatureView(
    "payments", customer, [paid], [Count(), Mean("amount"), Max("amount")], ["1h", "7d", "lifetime"]
)
sales = FeatureView("sales", shop, [paid], [Count(), Sum("amount")], ["24h"])
attempts = FeatureView("attempts", customer, [checkout_decided], [Count()], ["1h"], synchronous=True)
DEFINITIONS = Definitions(
    entities=[customer, shop],
    events=[paid, checkout_decided],
    views=[payments, sales, attempts],
    on_demand=[OnDemand("usual", lambda checkout, known: checkout.total / known["payments.mean_amount.7d"])],
)
POLICY = table([row("burst", reason="H1", attempts=">= 9")], {"attempts": 'features["attempts.count.1h"]'})
PEOPLE = ("ann", "bob", "eve")


class World:
    """A day of a small lender: events, some duplicated or voided, with checkouts in between, all archived."""

    def __init__(self, seed: int = 1, steps: int = 400) -> None:
        self.rng = random.Random(seed)
        self.clock = FixedClock(NOW)
        self.features, self.synchronous = LoggedStore(), LoggedStore()
        self.store = MemoryDecisionStore(self.features, None, self.synchronous)
        champions = Champions(DEFINITIONS, Shelf(), self.clock, lambda sha, error: None)
        self.decider = decider(
            self.store, clock=self.clock, definitions=DEFINITIONS, champions=champions, fallback_policy=POLICY
        )
        self.archive: list[Arrival] = []
        self.happened: list[Event] = []
        for step in range(steps):
            self.advance(self.rng.randrange(4 * MINUTE))
            if self.rng.random() < 0.3:
                self.check_out(step)
            else:
                self.take_in(step)
            if step == steps // 2:
                self.rebuild("ann")

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)
        self.features.now = self.synchronous.now = self.now

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    def check_out(self, step: int) -> None:
        answer = self.decider.decide(
            attempt(f"k{step}", token=self.rng.choice(PEOPLE), merchant_id="corner"), Deadline(60.0)
        )
        self.deliver([decided(answer.decision, DEFINITIONS)])

    def take_in(self, step: int) -> None:
        entities = {"customer": self.rng.choice(PEOPLE), "shop": "corner"}
        at = self.now - self.rng.choice([0, 5, 2 * HOUR, 30 * DAY])
        batch = [
            Event(
                f"e{step}", "paid", at, entities, {"amount": self.rng.randrange(1, 10**6), "currency": "USD"}
            )
        ]
        if self.happened and self.rng.random() < 0.1:
            batch.append(self.rng.choice(self.happened))
        if self.happened and self.rng.random() < 0.1:
            batch.append(msgspec.structs.replace(self.rng.choice(self.happened), voided_at=self.now))
        self.happened.append(batch[0])
        self.deliver(batch)

    def deliver(self, events: Sequence[Event]) -> None:
        self.archive += (Arrival(self.now, event) for event in events)
        outcome = ingest(
            events, DEFINITIONS, self.features, self.clock, RETENTION, synchronous_store=self.synchronous
        )
        assert not outcome.failed
        assert not outcome.refused

    def rebuild(self, token: str) -> None:
        (key,) = payments.item_keys(token)
        read = self.features.load([key])[key]
        arrivals = [arrival for arrival in self.archive if arrival.event.entities.get("customer") == token]
        events = held_events(
            self.features.log[key], [arrival for arrival in arrivals if arrival.event.type == "paid"]
        )
        commit = rebuilding_commit(payments, key, read, events, self.features.log[key], self.now, RETENTION)
        assert isinstance(self.features.commit(commit), Committed)

    @property
    def decisions(self) -> list[Decision]:
        return [parse_record(stored.record) for stored in self.store.decisions.values()]

    @property
    def log(self) -> CommitLog:
        return log_of(self.features, self.synchronous)

    def replayed(
        self, log: CommitLog | None = None, decisions: Sequence[Decision] | None = None, archive=None
    ) -> list[Replayed]:
        chosen = self.decisions if decisions is None else decisions
        items = items_of(self.archive if archive is None else archive, DEFINITIONS, versions_read(chosen))
        return list(replay(chosen, DEFINITIONS, log or self.log, items))


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize("seed", range(1, 6))
def test_every_decision_is_found_again(seed):
    replayed = World(seed).replayed()
    assert len(replayed) > 80
    assert [
        (result.reason, result.differences) for result in replayed if result.reason or result.differences
    ] == []


def test_a_tampered_value_is_found(world):
    first, *others = world.decisions
    values = [first.vector.values[0] + 1, *first.vector.values[1:]]
    tampered = msgspec.structs.replace(first, vector=msgspec.structs.replace(first.vector, values=values))
    changed, *rest = world.replayed(decisions=[tampered, *others])
    assert [difference.name for difference in changed.differences] == ["payments.count.1h"]
    assert not any(result.differences for result in rest)


def test_a_tampered_state_is_found(world):
    first = world.decisions[0]
    states = {**first.vector.states, "sales": "expired"}
    tampered = msgspec.structs.replace(first, vector=msgspec.structs.replace(first.vector, states=states))
    (changed,) = world.replayed(decisions=[tampered])
    assert changed.differences[0].name == "sales"


def test_a_lost_line_of_the_log_is_told_and_nothing_is_replayed_over_it(world):
    log = CommitLog()
    lost = world.features.log[payments.item_keys("bob")[0]][3]
    for commit in world.log:
        if commit != lost:
            log.add(commit)
    replayed = world.replayed(log)
    assert {result.reason for result in replayed} == {None, INCOMPLETE}
    assert not any(result.differences for result in replayed)


def test_lines_twice_and_in_any_order_change_nothing(world):
    lines = [*world.log, *(msgspec.structs.replace(line) for line in world.log)]
    random.Random(1).shuffle(lines)
    log = CommitLog()
    for line in lines:
        log.add(line)
    assert not any(result.reason or result.differences for result in world.replayed(log))
    assert log.repeated == len(lines) / 2


def test_a_lost_event_is_told(world):
    lost = world.happened[len(world.happened) // 2].id
    archive = [arrival for arrival in world.archive if arrival.event.id != lost]
    assert {result.reason for result in world.replayed(archive=archive)} == {None, NOT_ARCHIVED}


def test_a_changed_event_is_found(world):
    victim = world.happened[0]
    changed = msgspec.structs.replace(victim, data={**victim.data, "amount": 1})
    archive = [
        Arrival(at, changed if event is victim else event) for at, event in map(astuple, world.archive)
    ]
    assert any(result.differences for result in world.replayed(archive=archive))


def test_definitions_that_are_not_kept_are_told(world):
    other = msgspec.structs.replace(world.decisions[0], definition_hash="0" * 64)
    (result,) = world.replayed(decisions=[other])
    assert result.reason == NOT_KEPT


def test_a_view_that_could_not_be_read_is_none_when_replayed(world):
    lost = world.decisions[-1]
    view = payments.name

    class Away(MemoryDecisionStore):
        def read(self, keys, timeout_s, synchronous=()):
            snapshot = super().read(keys, timeout_s, synchronous)
            gone = {key: UNAVAILABLE for key in snapshot.reads if key.startswith(view)}
            return msgspec.structs.replace(snapshot, reads={**snapshot.reads, **gone})

    store = Away(world.features, None, world.synchronous)
    champions = Champions(DEFINITIONS, Shelf(), world.clock, lambda sha, error: None)
    scorer = decider(
        store, clock=world.clock, definitions=DEFINITIONS, champions=champions, fallback_policy=POLICY
    )
    answer = scorer.decide(attempt("away", token="ann", merchant_id="corner"), Deadline(60.0))
    decision = answer.decision
    assert decision.vector.states[view] == "unavailable" != lost.vector.states[view]
    (result,) = world.replayed(decisions=[parse_record(store.decisions[decision.id].record)])
    assert (result.reason, result.differences) == (None, [])


def test_a_filled_item_is_replayed_from_its_filling_on(world):
    """A version declared later: backfilled from the archive, then read by decisions."""
    late = World(9, steps=0)
    late.archive = list(world.archive)
    filling = Backfill(payments, world.now + RETENTION.event_ids + HOUR, RETENTION)
    late.advance(filling.started_at - late.now)
    for token in PEOPLE:
        (key,) = payments.item_keys(token)
        events = items_of(late.archive, DEFINITIONS, [key])[key].values()
        settled = [arrival.event for arrival in events]
        read = late.features.load([key])[key]
        commit = backfill_commit(filling, key, read, settled, (), late.now)
        assert isinstance(late.features.commit(commit), Committed)
    for step in range(20):
        late.advance(MINUTE)
        late.take_in(10_000 + step)
        late.check_out(20_000 + step)
    replayed = late.replayed()
    assert len(replayed) == 20
    assert not any(result.reason or result.differences for result in replayed)


def test_what_was_left_out_beside_others_is_left_out_again():
    """A commit that applied one event and left out another answers no moment in between, live and in replay."""
    store, clock = LoggedStore(), FixedClock(NOW)
    key, *_ = sales.item_keys("corner")
    of_one_item = (f"e{n}" for n in count() if sales.item_key("corner", f"e{n}") == key)
    new, newer, old = (
        Event(next(of_one_item), "paid", at, {"shop": "corner"}, {"amount": 5, "currency": "USD"})
        for at in (NOW - 1, NOW, NOW - 60 * DAY)
    )
    assert not ingest([new], DEFINITIONS, store, clock, RETENTION).too_late
    assert ingest([newer, old], DEFINITIONS, store, clock, RETENTION).too_late == {old.id}
    read = store.load([key])[key]
    events = {event.id: Arrival(NOW, event) for event in (new, newer, old)}
    replayed = item_versions(sales, key, [read.version], log_of(store), events)[read.version]
    for blob in (read.blob, replayed.blob):
        assert not ViewState.decode(sales, blob).answers(NOW - HOUR)
