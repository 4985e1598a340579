"""The simulated queue, store and clock keep the guarantees of what they simulate."""

import random

import pytest

from candor.clock import SECOND
from candor.edge.messages import Message
from candor.errors import StoreUnavailable
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.store.protocol import Commit, Committed, Conflict, Duplicates
from simulation.queue import SimulatedQueue
from simulation.scheduler import Scheduler
from simulation.store import Client, Table, Violation
from simulation.workers import Killed, Pool, Process

NOW = 1_800_000_000_000
FIRST = Version(7, 1)


class Surroundings:
    """A world in which only the named faults happen, and always do."""

    def __init__(self, *faults):
        self.faults = faults
        self.scheduler = Scheduler(random.Random(1), NOW)

    def happens(self, fault):
        return fault in self.faults

    def note(self, who, what):
        pass

    def reach(self, what):
        pass


def commit_of(seen=None, ids=("e1",), marker_expiry=None, expires_at=NOW // SECOND + 60):
    return Commit("k", b"blob", seen, ids, NOW, expires_at, marker_expiry)


def inside(world, work):
    """Run work as a task of the world and return its result."""
    results = []
    world.scheduler.spawn(lambda: results.append(work()))
    world.scheduler.run(lambda: bool(results))
    return results[0]


def client_of(*faults):
    world = Surroundings(*faults)
    table = Table(world)
    return world, table, Client(world, Process(world, "w", 0), table)


def test_a_commit_replaces_exactly_the_version_it_saw():
    table = Table(Surroundings())
    assert table.write(commit_of(), FIRST) == Committed(FIRST)
    assert isinstance(table.write(commit_of(), Version(8, 1)), Conflict)
    assert table.write(commit_of(seen=FIRST), Version(7, 2)) == Committed(Version(7, 2))
    assert table.get("k") == Read("present", b"blob", Version(7, 2))


def test_a_transaction_writes_item_and_markers_or_neither():
    table = Table(Surroundings())
    later = NOW // SECOND + 9
    assert table.write(commit_of(ids=("a", "b"), marker_expiry=later), FIRST) == Committed(FIRST)
    known = table.write(commit_of(seen=FIRST, ids=("b", "c"), marker_expiry=later), Version(7, 2))
    assert known == Duplicates(frozenset("b"))
    assert isinstance(table.write(commit_of(ids=("d",), marker_expiry=later), Version(9, 1)), Conflict)
    assert set(table.markers) == {("k", "a"), ("k", "b")}
    assert table.get("k").version == FIRST


def test_a_version_that_returns_is_a_violation():
    table = Table(Surroundings())
    table.write(commit_of(), FIRST)
    del table.items["k"]
    with pytest.raises(Violation, match="used before"):
        table.write(commit_of(), FIRST)


def test_items_and_markers_go_after_their_expiry_unless_renewed():
    world = Surroundings()
    table = Table(world)
    soon, late = NOW // SECOND + 5, NOW // SECOND + 10**6
    table.write(commit_of(expires_at=soon, marker_expiry=soon), FIRST)
    table.write(commit_of(seen=FIRST, ids=("e2",), expires_at=late), Version(7, 2))
    world.scheduler.run(lambda: world.scheduler.now > (late - 1) * SECOND)
    assert table.markers == {}
    assert world.scheduler.run(lambda: not table.items)
    assert (table.get("k"), table.expired, table.log["k"]) == (ABSENT, {"k"}, [])


@pytest.mark.parametrize(
    ("fault", "written"),
    [("throttled", False), ("request lost", False), ("request late", True), ("answer lost", True)],
)
def test_an_unanswered_commit_may_or_may_not_be_written(fault, written):
    world, table, client = client_of(fault)

    def commit():
        with pytest.raises(StoreUnavailable):
            client.commit(commit_of())
        return True

    assert inside(world, commit)
    world.scheduler.run(lambda: bool(table.items))
    assert bool(table.items) == written


@pytest.mark.parametrize("markers", [None, NOW // SECOND + 9])
def test_a_retried_request_meets_what_it_wrote_itself(markers):
    world, table, client = client_of("client retried")
    outcome = inside(world, lambda: client.commit(commit_of(marker_expiry=markers)))
    assert outcome == (Conflict(table.get("k")) if markers is None else Duplicates(frozenset({"e1"})))


def test_a_read_may_be_unavailable_also_the_one_after_a_conflict():
    world, table, client = client_of("read unavailable")
    assert inside(world, lambda: client.load(["k"])) == {"k": UNAVAILABLE}
    table.write(commit_of(), FIRST)
    assert inside(world, lambda: client.commit(commit_of())) == Conflict(UNAVAILABLE)


def test_a_killed_process_does_nothing_more():
    world, table, client = client_of("killed")

    def commit():
        for _ in range(2):
            with pytest.raises(Killed):
                client.commit(commit_of())
        return True

    assert inside(world, commit)
    assert table.items == {}


def queue_of(scheduler, max_receives=2):
    dead = []
    return SimulatedQueue(scheduler, lambda: None, dead.append, 30 * SECOND, max_receives), dead


def test_a_message_is_hidden_comes_again_and_dies():
    scheduler = Scheduler(random.Random(1), NOW)
    queue, dead = queue_of(scheduler)
    queue.send(Message("m", b""))
    for _ in range(2):
        assert [message.id for _, message in queue.receive(10, 0.0)] == ["m"]
        assert queue.receive(10, 0.0) == []
        scheduler.now += 30 * SECOND
    assert queue.receive(10, 0.0) == []
    assert (len(queue), [letter.id for letter in dead]) == (0, ["m"])
    assert queue.redrive(kept={"m"}) == 0
    assert queue.redrive() == 1
    assert [message.id for _, message in queue.receive(10, 0.0)] == ["m"]


def test_only_the_latest_receipt_deletes():
    scheduler = Scheduler(random.Random(1), NOW)
    queue, _ = queue_of(scheduler)
    queue.send(Message("m", b""))
    [(old, _)] = queue.receive(10, 1.0)
    [(new, _)] = queue.receive(10, 0.0)
    queue.delete(old)
    assert len(queue) == 1
    queue.delete(new)
    assert len(queue) == 0


def test_a_pool_writes_so_many_at_a_time_and_answers_in_order():
    world = Surroundings()
    running, most = [], []

    def work(number):
        running.append(number)
        most.append(len(running))
        world.scheduler.sleep(10 - number)
        running.remove(number)
        return number

    with Pool(world.scheduler, 3) as pool:
        assert inside(world, lambda: pool.map(work, range(9))) == list(range(9))
    assert max(most) == 3


def test_what_a_task_dies_of_reaches_the_world():
    scheduler = Scheduler(random.Random(1), NOW)
    scheduler.spawn(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scheduler.run(lambda: False)
    scheduler.stop()
