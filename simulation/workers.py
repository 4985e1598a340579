"""Simulated workers: the function `update_features` on batches, in processes that can die between any two steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

from candor.clock import SECOND
from candor.edge.messages import Message, MessageOutcome, ingest_messages
from candor.store.protocol import FeatureStore
from simulation.queue import SimulatedQueue
from simulation.scheduler import Scheduler, Task
from simulation.store import Surroundings
from simulation.traffic import SimulatedLender

T = TypeVar("T")
R = TypeVar("R")
BATCH = 10
VISIBILITY = 30 * SECOND
LONGEST_STALL = 2 * VISIBILITY
"""Largest stall: a stalled process continues after its messages were delivered to another one."""

Delivery = Sequence[tuple[tuple[int, int], Message]]


class Killed(BaseException):
    """The process died; no code in it may catch this."""


class Process:
    """One process of a worker, with its own clock."""

    def __init__(self, world: Surroundings, name: str, skew_ms: int) -> None:
        self._world = world
        self.name = name
        self._skew_ms = skew_ms
        self._dead = False

    def now_ms(self) -> int:
        return self._world.scheduler.now + self._skew_ms

    def io(self, what: str) -> None:
        """An I/O boundary: time passes and others run; the process may die."""
        world = self._world
        stalled = world.happens("stalled")
        world.scheduler.sleep(world.scheduler.rng.randint(1, LONGEST_STALL if stalled else 30))
        if not self._dead and world.happens("killed"):
            self._dead = True
            world.note(self.name, f"killed at: {what}")
        if self._dead:
            raise Killed


class Pool:
    """``ThreadPoolExecutor`` as ingest uses it, on simulated tasks."""

    def __init__(self, scheduler: Scheduler, writers: int) -> None:
        self._scheduler = scheduler
        self._writers = writers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return all results in order; the calling task sleeps until the last one is done."""
        pending = deque(enumerate(items))
        writers = min(self._writers, len(pending))
        if writers <= 1:
            return [work(item) for _, item in pending]
        return self._together(work, pending, writers)

    def _together(self, work: Callable[[T], R], pending: deque[tuple[int, T]], writers: int) -> list[R]:
        results: dict[int, R] = {}
        killed: list[Killed] = []
        ended: list[int] = []
        parent = self._scheduler.current
        assert parent is not None

        def write(number: int) -> None:
            try:
                while pending:
                    position, item = pending.popleft()
                    results[position] = work(item)
            except Killed as death:
                killed.append(death)
            ended.append(number)
            if len(ended) == writers:
                self._scheduler.wake(parent)

        for number in range(writers):
            self._scheduler.spawn(lambda number=number: write(number))  # type: ignore[misc]
        self._scheduler.suspend()
        if killed:
            raise killed[0]
        return [results[position] for position in sorted(results)]


class Workers:
    """The workers of the queue."""

    def __init__(
        self,
        world: Surroundings,
        lender: SimulatedLender,
        queue: Callable[[], SimulatedQueue],
        store: Callable[[Process], FeatureStore],
        synchronous_store: Callable[[Process], FeatureStore],
        stale: Callable[[str], None],
        max_skew_ms: int,
    ) -> None:
        self._world = world
        self._lender = lender
        self._queue = queue
        self._stale = stale
        self._store = store
        self._synchronous_store = synchronous_store
        self._max_skew_ms = max_skew_ms
        self._idle: list[Task] = []

    def start(self, number: int, writers: int) -> None:
        """Start `number` workers, each with `writers` concurrent writers."""
        for worker in range(number):
            self._world.scheduler.spawn(lambda worker=worker: self._run(f"w{worker}", writers))  # type: ignore[misc]

    def look(self) -> None:
        """Wake an idle worker, because a message became visible."""
        if self._idle:
            scheduler = self._world.scheduler
            task = self._idle.pop(scheduler.rng.randrange(len(self._idle)))
            scheduler.wake(task, scheduler.rng.randint(1, 400))

    def _run(self, name: str, writers: int) -> None:
        scheduler = self._world.scheduler
        while True:
            skew = scheduler.rng.randint(-self._max_skew_ms, self._max_skew_ms)
            process = Process(self._world, name, skew)
            try:
                while True:
                    self._handle(process, self._next(), writers)
            except Killed:
                scheduler.sleep(scheduler.rng.randint(100, 5_000))

    def _next(self) -> Delivery:
        scheduler = self._world.scheduler
        while not self._queue().has_visible:
            assert scheduler.current is not None
            self._idle.append(scheduler.current)
            scheduler.suspend()
        twice = 0.5 if self._world.happens("delivered twice") else 0.0
        return self._queue().receive(scheduler.rng.randint(1, BATCH), twice)

    def _handle(self, process: Process, delivery: Delivery, writers: int) -> None:
        if not delivery:
            return
        messages = [message for _, message in delivery]
        self._world.note(process.name, f"received [{' '.join(message.id for message in messages)}]")
        process.io("received")
        outcome = ingest_messages(
            messages,
            self._lender.definitions,
            self._store(process),
            process,
            self._lender.retention,
            synchronous_store=self._synchronous_store(process),
            writers=writers,
        )
        self._refuse(process, outcome)
        for message, wait_s in outcome.early:
            process.io("sends an early message")
            self._queue().send(message, wait_s * SECOND)
            self._world.reach("early")
        if outcome.stale:
            process.io("tells of stale items")
            for key in sorted(outcome.stale):
                self._stale(key)
        for kind in ("too_late", "stale"):
            if getattr(outcome, kind):
                self._world.reach(f"told of {kind}")
        process.io("batch done")
        self._delete(process, delivery, outcome)

    def _refuse(self, process: Process, outcome: MessageOutcome) -> None:
        for message, reason in outcome.refused:
            process.io("sends a refused message")
            self._queue().bury(message)
            self._world.note(process.name, f"refused {message.id}: {reason.code}")
            self._world.reach("refused")

    def _delete(self, process: Process, delivery: Delivery, outcome: MessageOutcome) -> None:
        causes: dict[str, Any] = {message.id: cause for message, cause in outcome.failed}
        for receipt, message in delivery:
            if message.id in causes:
                self._world.note(process.name, f"failed {message.id}: {causes[message.id]}")
            elif not self._world.happens("delete lost"):
                self._queue().delete(receipt)
