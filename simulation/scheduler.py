"""Virtual time for greenlet tasks.

Exactly one task runs, and tasks switch only where they sleep, so a seed replays exactly.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from greenlet import getcurrent, greenlet

BEGIN = 1_800_000_000_000
"""Start of every world (ms UTC)."""


class Stopped(BaseException):
    """The world ends: unwinds a task wherever it sleeps."""


class Task:
    """A line of execution inside the world: a greenlet that runs until it sleeps or ends."""

    def __init__(self, scheduler: Scheduler, work: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._work = work
        self._greenlet = greenlet(self._run)

    @property
    def done(self) -> bool:
        """True if the work has ended."""
        return bool(self._greenlet.dead)

    def _run(self) -> None:
        try:
            self._work()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever a task dies of is the world's to report
            self._scheduler.crash = error

    def take_turn(self) -> None:
        """Run the task until it sleeps or ends."""
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()

    def wait(self) -> None:
        """Sleep until it is this task's turn."""
        assert self._greenlet.parent is not None
        self._greenlet.parent.switch()
        if self._scheduler.stopping:
            raise Stopped

    def unwind(self) -> None:
        """End the task wherever it sleeps."""
        if self._greenlet:
            self.take_turn()


class Scheduler:
    """A clock, a heap of what happens when, and the one task that runs."""

    def __init__(self, rng: random.Random, now_ms: int) -> None:
        self.now = now_ms
        self.rng = rng
        self.crash: BaseException | None = None
        self.stopping = False
        self.current: Task | None = None
        self._heap: list[tuple[int, float, int, Callable[[], object]]] = []
        self._number = 0
        self._tasks: list[Task] = []

    def at(self, moment: int, action: Callable[[], object]) -> None:
        """Do something at a moment (ms); the seed orders what falls on the same one."""
        self._number += 1
        heapq.heappush(self._heap, (max(moment, self.now), self.rng.random(), self._number, action))

    def spawn(self, work: Callable[[], None]) -> Task:
        """Start a task now."""
        task = Task(self, work)
        self._tasks = [started for started in self._tasks if not started.done]
        self._tasks.append(task)
        self.wake(task)
        return task

    def wake(self, task: Task, delay: int = 0) -> None:
        """Give a suspended task its turn, ``delay`` ms from now."""
        self.at(self.now + delay, lambda: self._resume(task))

    def sleep(self, ms: int) -> None:
        """Called by a task: go on ``ms`` later; others run meanwhile."""
        assert self.current is not None
        self.wake(self.current, ms)
        self.suspend()

    def suspend(self) -> None:
        """Called by a task: go on when someone wakes it."""
        task = self.current
        assert task is not None
        task.wait()

    def _resume(self, task: Task) -> None:
        self.current = task
        task.take_turn()
        self.current = None
        if self.crash is not None:
            raise self.crash

    def run(self, until: Callable[[], bool]) -> bool:
        """Let things happen until the condition holds; False if nothing is left to happen before."""
        while not until():
            if not self._heap:
                return False
            moment, _, _, action = heapq.heappop(self._heap)
            self.now = moment
            action()
        return True

    def stop(self) -> None:
        """Unwind every task."""
        self.stopping = True
        for task in self._tasks:
            task.unwind()
