"""Stale items become exact, with concurrent updates, a late archive and repeated deliveries."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from msgspec.structs import replace as changed

import history.healing.healer
from candor.clock import DAY, HOUR, MINUTE, SECOND, FixedClock
from candor.contracts import Event
from candor.edge.messages import Message
from candor.edge.stale import StaleItem, StaleQueue
from candor.features.state import ViewState
from candor.features.vector import ABSENT, Read, Version
from candor.ingest import Backoff, ingest
from candor.store.protocol import Commit, Conflict
from history.healing.healer import Healer
from history.healing.worker import PATIENCE, HealingWorker
from history.index.kinds import KINDS
from history.index.read import ArchiveIndex
from history.index.refresh import refresh
from history.rebuild.verification import Verified, verify
from tests.builders import NOW, RETENTION, customer, definitions_of, event, only_key, shop, view_of
from tests.history.archives import MemoryArchive, envelope
from tests.history.logged import LoggedStore

STEADY, BUSY = view_of(["1h", "7d", "90d"], customer), view_of(["1h", "30d"], shop)
DEFINITIONS = definitions_of(STEADY, BUSY)
KEY = only_key(STEADY, "ann")
LAG_S, RETRY_S = 150, 60


@pytest.fixture(scope="module", autouse=True)
def items_of_any_size() -> Iterator[None]:
    """Lift the item size limit: every aggregation over these windows exceeds DynamoDB's."""
    with patch("candor.features.definitions.LARGEST_ITEM", 2**62):
        yield


class World:
    """Updater, archive, queue and worker of a stage, on one clock."""

    def __init__(self) -> None:
        self.clock = FixedClock(NOW)
        self.store, self.archive = LoggedStore(), MemoryArchive()
        self.store.now = NOW
        self.events: list[Event] = []
        self.queue: deque[tuple[int, bytes]] = deque()
        self.receives: list[tuple[int, bytes]] = []
        self._logged: set[tuple[str, int, int]] = set()
        self._objects = 0
        self.healer = Healer(
            index=ArchiveIndex(self.archive),
            definitions=DEFINITIONS,
            store=self.store,
            synchronous_store=LoggedStore(),
            clock=self.clock,
        )
        queue = StaleQueue(self._send, "url")
        self.worker = HealingWorker(self.healer, queue, self.clock, archive_lag_s=LAG_S, retry_s=RETRY_S)

    def _send(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's own names
        for entry in Entries:
            due = self.clock.now_ms() + entry["DelaySeconds"] * SECOND
            self.queue.append((due, entry["MessageBody"].encode()))
        return {}

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    def pass_time(self, ms: int) -> None:
        self.clock.advance(ms)

    def happen(self, *events: Event, archived: bool = True) -> None:
        """The bus accepts events; the updater applies them and queues stale items."""
        self.events += events
        if archived:
            self.archive_events(*events)
        outcome = ingest(events, DEFINITIONS, self.store, self.clock, RETENTION)
        assert not outcome.failed
        assert not outcome.refused
        StaleQueue(self._send, "url").send(StaleItem(key, self.now) for key in outcome.stale)

    def archive_events(self, *events: Event) -> None:
        self._deliver("events/", [envelope(each, self.now) for each in events])

    def log_arrives(self) -> None:
        """Deliver the streams' records of all commits so far to the archive."""
        commits = [
            commit
            for key in sorted(self.store.log)
            for commit in self.store.log[key]
            if (commit.key, commit.birth, commit.n) not in self._logged
        ]
        self._logged |= {(commit.key, commit.birth, commit.n) for commit in commits}
        self._deliver("commits/", [msgspec.json.encode(commit) for commit in commits])

    def _deliver(self, prefix: str, lines: list[bytes]) -> None:
        self._objects += 1
        self.archive.deliver(prefix, self.now, lines, f"{self._objects:06}")

    def work(self) -> Any:
        """Work on every due message and return the outcome. Failed messages are not redelivered here."""
        due = [body for at, body in self.queue if at <= self.now]
        self.queue = deque((at, body) for at, body in self.queue if at > self.now)
        return self.worker.work([Message(f"m{number}", body) for number, body in enumerate(due)])

    def settle(self, limit: int = 12) -> None:
        """Advance time, deliver the log and work, until no message is left."""
        for _ in range(limit):
            if not self.queue:
                return
            self.pass_time(3 * MINUTE)
            self.log_arrives()
            self.work()
        raise AssertionError(f"{len(self.queue)} messages are left")

    def state(self, key: str = KEY) -> ViewState:
        view = STEADY if key.startswith(STEADY.name) else BUSY
        return ViewState.decode(view, self.store.items[key].blob)

    def assert_exact(self) -> None:
        """Every item equals the offline engine, and none is stale."""
        for view in (STEADY, BUSY):
            name = view.entity.name
            tokens = sorted({each.entities[name] for each in self.events if name in each.entities})
            verified = verify(DEFINITIONS, view, self.events, tokens, self.store, self.now + DAY)
            assert verified == Verified(len(tokens), [], 0)
            for key in (key for token in tokens for key in view.item_keys(token)):
                assert key not in self.store.items or not self.state(key).stale


def payments(count: int = 80, **more: Any) -> list[Event]:
    return [event(f"e{n}", NOW - 60 * DAY + n * HOUR, amount=n, kind="a", **more) for n in range(count)]


def void_of(payment: Event, at: int) -> Event:
    return changed(payment, voided_at=at)


@pytest.fixture
def stale() -> World:
    """A payment was voided after its tile was folded, so its maximum cannot be subtracted."""
    world = World()
    world.happen(*payments())
    world.happen(void_of(payments()[40], NOW - DAY))
    assert world.state().stale
    assert len(world.queue) == 1
    return world


def test_a_stale_item_is_exact_after_minutes(stale):
    stale.settle()
    stale.assert_exact()
    assert stale.now - NOW <= 10 * MINUTE


def test_with_an_index_as_without(stale):
    stale.log_arrives()
    stale.pass_time(2 * HOUR)
    for kind in KINDS:
        assert refresh(stale.archive, kind, stale.now).written == 1
    raw = [name for name in stale.archive.objects if not name.startswith("index/")]
    for name in raw:
        del stale.archive.objects[name]
    stale.settle()
    stale.assert_exact()


def test_a_hot_entity_is_healed_shard_by_shard():
    world = World()
    entities = {"shop": "corner"}
    payments_of_shop = [
        changed(each, occurred_at=each.occurred_at + 40 * DAY) for each in payments(400, entities=entities)
    ]
    world.happen(*payments_of_shop)
    world.happen(*(void_of(each, NOW - DAY) for each in payments_of_shop[40:50]))
    assert len(world.queue) > 1
    world.settle()
    world.assert_exact()


@pytest.mark.parametrize("seed", range(12))
def test_random_worlds_end_exact(seed):
    rng = random.Random(seed)
    world = World()
    past: list[Event] = []
    for number in range(rng.randrange(100, 160)):
        at = NOW - rng.randrange(50 * DAY)
        entities = {"customer": rng.choice(["ann", "bob"]), "shop": "corner"}
        past.append(
            event(f"e{number}", at, entities=entities, amount=rng.randrange(100), kind=rng.choice("ab"))
        )
    world.happen(*past)
    for step in range(25):
        world.pass_time(rng.randrange(2 * MINUTE))
        action = rng.random()
        if action < 0.35:
            voided = past.pop(rng.randrange(len(past)))
            void = void_of(voided, world.now)
            world.happen(*[void] * rng.choice([1, 1, 2]))
        elif action < 0.6:
            world.happen(
                event(f"n{step}", world.now, entities={"customer": "ann", "shop": "corner"}, amount=step)
            )
        elif action < 0.8:
            world.log_arrives()
        else:
            world.work()
    world.settle(30)
    world.assert_exact()


def test_messages_that_come_twice_or_too_late_change_nothing(stale):
    message = stale.queue[0]
    stale.queue.append(message)
    stale.settle()
    before = stale.store.items[KEY]
    stale.queue.append(message)
    outcome = stale.work()
    assert (outcome.failed, outcome.healed, outcome.stale) == ([], [], [])
    assert stale.store.items[KEY] == before


def test_an_item_is_told_as_healed_with_the_time_that_it_took(stale):
    outcome = None
    for _ in range(4):
        stale.pass_time(2 * MINUTE)
        stale.log_arrives()
        outcome = stale.work()
        if outcome.healed:
            break
    assert outcome.healed == [(stale.now - NOW) / SECOND]
    assert outcome.stale == []


def test_while_the_archive_is_late_the_message_comes_again_and_is_then_left_to_the_dead_letters(stale):
    while stale.now - NOW < PATIENCE:
        outcome = stale.work()
        assert outcome.failed == []
        assert len(stale.queue) == 1
        assert stale.queue[0][0] - stale.now in (RETRY_S * SECOND, LAG_S * SECOND)
        stale.pass_time(stale.queue[0][0] - stale.now)
    [body] = [body for _, body in stale.queue]
    [(message, cause)] = stale.work().failed
    assert (message.body, cause) == (body, "log incomplete")
    assert len(stale.queue) == 0
    stale.log_arrives()
    stale.queue.append((stale.now, body))  # redriven
    stale.settle()
    stale.assert_exact()


def test_an_event_that_is_not_archived_yet_is_waited_for():
    world = World()
    history = payments()
    world.happen(*history[:79])
    world.happen(history[79], archived=False)
    world.happen(void_of(history[40], NOW - DAY))
    for _ in range(3):
        world.pass_time(3 * MINUTE)
        world.log_arrives()
        assert world.work().failed == []
        assert world.state().stale
    world.archive_events(history[79])
    world.settle()
    world.assert_exact()


def test_a_writer_that_is_faster_loses_nothing(stale):
    stale.log_arrives()
    commit, overtaken = stale.store.commit, []

    def overtaking(written: Commit):
        if not written.event_ids and not overtaken:
            overtaken.append(1)
            stale.happen(event("meanwhile", NOW - MINUTE, amount=7, kind="a"))
        return commit(written)

    stale.store.commit = overtaking
    stale.settle()
    assert overtaken
    stale.assert_exact()


def test_what_stays_unread_or_contradicts_itself_is_told_apart(stale):
    def status() -> tuple[str, str | None]:
        return tuple(stale.healer.heal([KEY])[KEY])

    load = stale.store.load
    stale.store.load = lambda keys: dict.fromkeys(keys, Read("unavailable"))
    assert status() == ("waiting", "the item could not be read")
    stale.store.load = load
    read = stale.store.items[KEY]
    stale.store.items[KEY] = Read("present", b"damaged", read.version)
    assert status()[0] == "failed"
    stale.store.items[KEY] = read
    for key in ("gone@00000000#ann", STEADY.item_keys("nobody")[0]):
        assert stale.healer.heal([key]) == {key: ("exact", None)}
    stale.store.items[KEY] = ABSENT
    assert status() == ("exact", None)


def test_a_log_that_contradicts_itself_is_not_waited_for(stale):
    stale.log_arrives()
    stale._logged.clear()
    first = stale.store.log[KEY][0]
    stale.store.log[KEY][0] = changed(first, applied_at=first.applied_at + 1)
    stale.log_arrives()
    outcome = stale.work()
    while stale.queue:
        stale.pass_time(3 * MINUTE)
        outcome = stale.work()
    assert [cause for _, cause in outcome.failed] == ["log contradicts itself"]


def test_an_archive_that_cannot_be_read_is_not_waited_for_and_one_that_is_not_indexed_is(stale, monkeypatch):
    assert stale.healer.heal([KEY])[KEY].status == "begun"
    stale.log_arrives()
    name = next(iter(stale.archive.objects))
    whole, stale.archive.objects[name] = stale.archive.objects[name], b"broken"
    assert stale.healer.heal([KEY])[KEY].status == "failed"
    stale.archive.objects[name] = whole
    monkeypatch.setattr(history.healing.healer, "MOST_UNINDEXED", 0)
    assert stale.healer.heal([KEY])[KEY] == ("waiting", "too much of the archive is not indexed yet")


def test_a_message_that_cannot_be_read_is_failed_alone(stale):
    stale.log_arrives()
    body = stale.queue.pop()[1]
    outcome = stale.worker.work([Message("m0", b"no message"), Message("m1", body)])
    assert [(message.id, cause) for message, cause in outcome.failed] == [("m0", "unreadable_message")]
    stale.settle()
    stale.assert_exact()


def test_what_the_queue_refuses_to_take_again_is_delivered_again(stale):
    refusing = StaleQueue(
        lambda QueueUrl, Entries: {"Failed": [{"Id": each["Id"], "Code": "Throttled"} for each in Entries]},  # noqa: N803 - boto3's own names
        "url",
    )
    body = stale.queue.pop()[1]
    outcome = replace(stale.worker, queue=refusing).work([Message("m0", body)])
    assert [message.id for message, _ in outcome.failed] == ["m0"]
    assert outcome.stale == [0.0]


def test_of_several_messages_of_one_item_the_oldest_goes_on(stale):
    bodies = [json.dumps({"key": KEY, "since": NOW - age}).encode() for age in (1, 3, 2)]
    stale.queue.clear()
    outcome = stale.worker.work([Message(f"m{number}", body) for number, body in enumerate(bodies)])
    assert outcome.failed == []
    assert [json.loads(body)["since"] for _, body in stale.queue] == [NOW - 3]


def test_the_first_step_marks_the_item_and_the_second_comes_when_the_archive_has_it(stale):
    """With the two steps apart, events in between are kept apart, and the item is exact in the end."""
    seen = stale.store.items[KEY].version
    assert stale.healer.heal([KEY])[KEY].status == "begun"
    assert stale.store.items[KEY].version == Version(seen.birth, seen.n + 1)
    assert stale.state().healing_from == seen.n + 1
    assert stale.healer.heal([KEY])[KEY] == ("waiting", "log incomplete")
    stale.log_arrives()
    stale.happen(event("later", NOW - MINUTE, amount=7, kind="a"))
    assert stale.state().stale
    assert stale.healer.heal([KEY])[KEY].status == "healed"
    assert stale.healer.heal([KEY])[KEY].status == "exact"
    stale.queue.clear()
    stale.assert_exact()


def test_the_first_step_comes_back_when_the_archive_should_have_it(stale):
    outcome = stale.work()
    assert (outcome.failed, outcome.stale) == ([], [0.0])
    assert [at for at, _ in stale.queue] == [NOW + LAG_S * SECOND]


def test_writers_that_are_always_faster_are_left_for_later(stale, monkeypatch):
    stale.log_arrives()
    monkeypatch.setattr(history.healing.healer, "BACKOFF", Backoff(sleep=lambda seconds: None))
    stale.store.commit = lambda commit: Conflict(stale.store.items[KEY])
    assert stale.healer.heal([KEY])[KEY] == ("waiting", "12 conflicting writers on one item")


def test_a_store_that_is_away_is_waited_for(stale):
    stale.log_arrives()
    stale.store.crash_after = 0
    assert stale.healer.heal([KEY])[KEY] == ("waiting", "gone")
