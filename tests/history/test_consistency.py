"""Every cause of a difference in a history that has it, and simulated worlds without unexplained ones."""

from __future__ import annotations

import random
from functools import partial

import pytest
from msgspec.structs import replace

from candor.champion import Champions
from candor.clock import DAY, HOUR, MINUTE, SECOND, Deadline, FixedClock
from candor.contracts import Event
from candor.decision import Decision, decided, parse_record
from candor.features.state import ViewState
from candor.features.vector import UNAVAILABLE, Read, Version, build, decode_items, item_keys
from candor.ingest import ingest
from candor.store.memory import MemoryDecisionStore
from candor.store.protocol import Committed
from candor.synchronous import SynchronousViews
from history.archive.commits import Commit as Logged
from history.archive.commits import CommitLog
from history.archive.events import Arrival
from history.archive.items import items_of
from history.rebuild.recompute import held_events, rebuilding_commit
from history.replay.as_served import KeptDefinitions, keys_of
from history.replay.causes import (
    ERASED,
    LAG,
    LATENESS,
    OVERFLOW,
    UNDER_WAY,
    UNEXPLAINED,
    VOIDED,
)
from history.replay.causes import UNAVAILABLE as NOT_READ
from history.replay.consistency import (
    UNDATED,
    ArchivedHistory,
    ConsistencyReport,
    Freshness,
    consistency,
    nobody,
)
from simulation.faults import HEALTHY, PLANTS, patched_limits
from simulation.world import World, virtual_time
from tests.builders import NOW, RETENTION
from tests.decide.lending import Shelf, attempt, decider
from tests.history.logged import LoggedStore, log_of
from tests.history.test_as_served import DEFINITIONS, POLICY, payments, sales


class Story:
    """A lender driven step by step: the bus accepts events, the updater applies some, checkouts are decided."""

    def __init__(self, store: type[MemoryDecisionStore] = MemoryDecisionStore) -> None:
        self.clock = FixedClock(NOW)
        self.features, self.synchronous = LoggedStore(), LoggedStore()
        self.store = store(self.features, None, self.synchronous)
        champions = Champions(DEFINITIONS, Shelf(), self.clock, lambda sha, error: None)
        self.decider = decider(
            self.store, clock=self.clock, definitions=DEFINITIONS, champions=champions, fallback_policy=POLICY
        )
        self.archive: list[Arrival] = []
        self.erased_at = nobody

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    def wait(self, ms: int = SECOND) -> None:
        self.clock.advance(ms)
        self.features.now = self.synchronous.now = self.now

    def bus(self, *events: Event) -> None:
        self.archive += (Arrival(self.now, event) for event in events)
        self.wait()

    def apply(self, *events: Event) -> None:
        outcome = ingest(
            events, DEFINITIONS, self.features, self.clock, RETENTION, synchronous_store=self.synchronous
        )
        assert not outcome.failed
        assert not outcome.refused
        self.wait()

    def both(self, *events: Event) -> None:
        self.bus(*events)
        self.apply(*events)

    def decide(self, key: str = "k", *, replay_at: int | None = None) -> Decision:
        request = attempt(key, token="ann", merchant_id="corner", replay_at=replay_at)
        decision = self.decider.decide(request, Deadline(60.0)).decision
        self.wait()
        self.both(decided(decision, DEFINITIONS))
        return decision

    def report(self, decisions: list[Decision] | None = None, now: int | None = None) -> ConsistencyReport:
        compared = decisions or [parse_record(stored.record) for stored in self.store.decisions.values()]
        keys = keys_of(compared, KeptDefinitions(DEFINITIONS))
        items = items_of(self.archive, DEFINITIONS, keys)
        log = log_of(self.features, self.synchronous)
        archived = ArchivedHistory(DEFINITIONS, log, items, RETENTION, now or self.now)
        return consistency(compared, archived, self.erased_at)


def paid(event_id: str, at: int, amount: int = 100, **entities: str) -> Event:
    data = {"amount": amount, "currency": "USD"}
    return Event(event_id, "paid", at, entities or {"customer": "ann", "shop": "corner"}, data)


def causes(report: ConsistencyReport) -> dict[str, int]:
    """Return decisions by cause, of a report without mismatches in which everything was replayed."""
    assert report.mismatches == []
    assert not report.not_replayable
    return {cause: tally.decisions for cause, tally in report.causes.items()}


def test_where_all_was_known_nothing_differs():
    story = Story()
    story.both(paid("e1", NOW), paid("e2", NOW - 3 * DAY))
    story.decide()
    report = story.report()
    assert (causes(report), report.decisions, report.compared) == ({}, 1, 1)
    assert report.features == len(DEFINITIONS.features)


def test_taken_after_the_decision_is_lateness():
    story = Story()
    story.decide()
    story.both(paid("e1", NOW - HOUR))
    report = story.report()
    assert causes(report) == {LATENESS: 1}
    assert report.causes[LATENESS].features > 5, "the on-demand feature differs because the windowed ones do"


def test_the_replay_clock_does_not_decide_what_was_late():
    story = Story()
    story.bus(paid("e1", NOW - 40 * DAY))
    story.decide(replay_at=NOW - 39 * DAY)
    story.apply(paid("e1", NOW - 40 * DAY))
    assert causes(story.report()) == {LAG: 1}


def test_taken_before_and_applied_after_is_lag():
    story = Story()
    story.bus(paid("e1", NOW - HOUR))
    story.decide()
    story.apply(paid("e1", NOW - HOUR))
    assert causes(story.report()) == {LAG: 1}


def test_what_is_not_applied_yet_is_lag_and_after_an_hour_lost():
    story = Story()
    story.bus(paid("e1", NOW - MINUTE))
    story.decide()
    assert causes(story.report()) == {LAG: 1}
    report = story.report(now=story.now + HOUR)
    assert causes(report) == {UNEXPLAINED: 1}
    assert len(report.unexplained) == report.unexplained_features > 5


def test_what_came_too_late_for_every_window_is_overflow():
    story = Story()
    story.both(*[paid(f"e{n}", NOW, shop="corner") for n in range(20)])  # some on every shard
    old = paid("old", NOW - 30 * DAY, shop="corner")
    story.bus(old)
    story.decide(replay_at=NOW - 30 * DAY + HOUR)
    story.apply(old)
    report = story.report(now=NOW + 2 * DAY)
    assert causes(report) == {OVERFLOW: 1}
    assert report.causes[OVERFLOW].features == len(sales.features)


def test_a_maximum_that_was_voided_is_told_until_the_item_is_rebuilt():
    story = Story()
    events = [paid(f"e{n}", NOW - 60 * DAY + n * HOUR, amount=n + 1, customer="ann") for n in range(80)]
    events[5] = paid("e5", events[5].occurred_at, amount=10**6, customer="ann")
    story.both(*events)
    story.both(replace(events[5], voided_at=story.now))
    story.wait(HOUR)
    story.both(paid("new", story.now, amount=3, customer="ann"))
    before = story.decide("before")
    assert before.vector.values[DEFINITIONS.features.index("payments.max_amount.lifetime")] == 10**6
    assert causes(story.report()) == {VOIDED: 1}
    [key] = payments.item_keys("ann")
    logged = story.features.log[key]
    held = held_events(logged, story.archive)
    standing, now = story.features.items[key], story.now
    commit = rebuilding_commit(payments, key, standing, held, logged, now, RETENTION)
    assert isinstance(story.features.commit(commit), Committed)
    after = story.decide("after")
    assert causes(story.report([after])) == {}


def test_a_late_void_is_late():
    story = Story()
    story.both(paid("e1", NOW - HOUR))
    story.wait(MINUTE)
    moment = story.now
    story.wait(MINUTE)
    story.decide()
    story.both(replace(paid("e1", NOW - HOUR), voided_at=moment))
    assert causes(story.report()) == {LATENESS: 1}


def test_what_an_erased_person_did_before_is_erased():
    story = Story()
    erased_at = NOW - HOUR
    [key] = payments.item_keys("ann")
    state = ViewState.new(payments)
    state.erase(erased_at)
    story.features.items[key] = Read("present", state.encode(), Version(NOW * 1_000_000, 0))
    story.both(paid("e1", NOW - DAY, customer="ann"))
    story.both(paid("e2", NOW - MINUTE, customer="ann"))
    story.decide()
    story.erased_at = lambda kind, token: erased_at if (kind, token) == ("customer", "ann") else None
    assert causes(story.report(now=NOW + DAY)) == {ERASED: 1}


def test_what_expired_with_its_item_counts_on_neither_side():
    story = Story()
    story.both(paid("e1", NOW, customer="ann"))
    story.wait((payments.item_expiry_ms or 0) + DAY)
    [key] = payments.item_keys("ann")
    del story.features.items[key]
    story.decide("gone")
    story.both(paid("e2", story.now, customer="ann"))
    story.decide("born again")
    assert causes(story.report()) == {}


def test_an_item_that_vanished_before_it_expired_is_unexplained():
    story = Story()
    story.both(paid("e1", NOW, customer="ann"))
    story.wait(DAY)
    del story.features.items[payments.item_keys("ann")[0]]
    story.decide()
    assert causes(story.report()) == {UNEXPLAINED: 1}


class Away(MemoryDecisionStore):
    """A decision store that cannot read the items of one view."""

    def read(self, keys, timeout_s, synchronous=()):
        snapshot = super().read(keys, timeout_s, synchronous)
        gone = {key: UNAVAILABLE for key in snapshot.reads if key.startswith(payments.name)}
        return replace(snapshot, reads={**snapshot.reads, **gone})


def test_a_view_that_could_not_be_read_is_told_as_that():
    story = Story(Away)
    story.both(paid("e1", NOW))
    story.decide()
    assert causes(story.report()) == {NOT_READ: 1}


def test_a_value_that_nothing_explains_is_a_mismatch_and_unexplained():
    story = Story()
    story.both(paid("e1", NOW))
    decision = story.decide()
    values = [decision.vector.values[0] + 1, *decision.vector.values[1:]]
    report = story.report([replace(decision, vector=replace(decision.vector, values=values))])
    assert report.mismatches == [decision.id]
    assert report.unexplained == [(decision.id, "payments.count.1h")]


def test_a_record_that_does_not_tell_when_it_was_made_is_compared_as_served_alone():
    story = Story()
    undated = replace(story.decide(replay_at=NOW - DAY), decided_at=None)
    report = story.report([undated])
    assert (report.not_replayable, report.compared) == ({UNDATED: 1}, 0)


def test_what_was_refused_and_never_redriven_does_not_count():
    story = Story()
    ahead = paid("e1", NOW + HOUR, customer="ann")
    story.bus(ahead)
    story.wait(2 * HOUR)
    story.decide("before")
    assert causes(story.report()) == {}
    story.apply(ahead)
    story.decide("after")
    assert causes(story.report()) == {LAG: 1}


def test_freshness_is_from_the_bus_into_the_item():
    story = Story()
    for number in range(100):
        story.bus(paid(f"e{number}", story.now, customer="ann"))
        story.wait((number + 1) * 10)
        story.apply(paid(f"e{number}", story.now - 5, customer="ann"))
    story.decide()
    report = story.report()
    assert report.freshness["payments"] == Freshness(100, SECOND + 500, SECOND + 990)
    assert report.freshness["attempts"] == Freshness(1, 0, 0), (
        "written with the decision, before the bus had it"
    )


class Watched(World):
    """A world with archived events and logged commits, in which checkouts are decided at any moment."""

    def __init__(self, rng: random.Random, planted: str | None) -> None:
        super().__init__(rng, planted)
        self.archive: list[Arrival] = []
        self.log = CommitLog()
        self.decisions: list[Decision] = []
        self.definitions, self.retention = self._lender.definitions, self._lender.retention
        for table in (self.table, self.synchronous):
            table.put = partial(self._logged, table.put)

    def _logged(self, put, commit, version):
        put(commit, version)
        ids, unsettled = list(commit.event_ids), list(commit.unsettled)
        flags = commit.filled_before, commit.rebuilt, commit.left_out, unsettled, commit.healing
        self.log.add(Logged(commit.key, version.birth, version.n, commit.applied_at, ids, *flags))

    def _send(self, event, what="event"):
        self.archive.append(Arrival(self.scheduler.now, event))
        super()._send(event, what)

    def _import_events(self, events):
        self.archive += [Arrival(self.scheduler.now, event) for event in events]
        super()._import_events(events)

    def _publish(self):
        super()._publish()
        self.scheduler.at(self.scheduler.now + self.rng.randrange(HOUR), self._check_out)

    def _check_out(self) -> None:
        now = self.scheduler.now
        application = attempt(f"d{len(self.decisions)}", token="c0", merchant_id="s0").application
        keys = item_keys(self.definitions, application)
        stored = {
            key: self._table_of(view).get(key) for view in self.definitions.views for key in keys[view.name]
        }
        read = decode_items(self.definitions, stored, keys)
        q, items = SynchronousViews(self.definitions, self.retention).live(keys, read, now)
        vector = build(self.definitions, items, keys, application.checkout, q)
        self.decisions.append(
            Decision(
                id=f"d{len(self.decisions)}",
                merchant_id="s0",
                livemode=False,
                q=q,
                replay_clock=False,
                request=application.checkout,
                vector=vector,
                definition_hash=self.definitions.hash,
                bundle=None,
                policy="",
                score=None,
                cutoff=None,
                outcome="approved",
                component=None,
                rules=[],
                reasons=[],
                degraded=False,
                regulation_profile="",
                attempt="",
                decided_at=now,
            )
        )


def lived(seed: int, planted: str | None = None) -> tuple[Watched, ConsistencyReport]:
    rng = random.Random(seed)
    plant = PLANTS[planted] if planted else HEALTHY
    with patched_limits(rng), plant.active():
        world = Watched(rng, planted)
        with virtual_time(world):
            violation = world.run()
        assert violation is None or planted
        items = items_of(
            [arrival for arrival in world.archive if arrival.event.type in world.definitions.event_types],
            world.definitions,
            keys_of(world.decisions, KeptDefinitions(world.definitions)),
        )
        now = world.scheduler.now + UNDER_WAY
        archived = ArchivedHistory(world.definitions, world.log, items, world.retention, now)
        return world, consistency(world.decisions, archived)


@pytest.mark.parametrize("seed", range(12))
def test_in_a_simulated_world_nothing_mismatches_and_nothing_is_unexplained(seed):
    world, report = lived(seed)
    assert report.mismatches == []
    assert not report.not_replayable
    assert report.unexplained == []
    assert report.compared == len(world.decisions) > 10


def test_simulated_worlds_have_lateness_lag_and_voids():
    causes: set[str] = set()
    for seed in range(12):
        causes |= set(lived(seed)[1].causes)
        if {LATENESS, LAG} <= causes:
            break
    assert {LATENESS, LAG} <= causes


@pytest.mark.parametrize(
    "planted",
    ["no-dedupe", "lost-conflict-retry", "window-edge-off-by-one", "marker-without-transaction"],
)
def test_a_planted_fault_is_not_explained_away(planted):
    assert any(lived(seed, planted)[1].unexplained for seed in range(1, 50))
