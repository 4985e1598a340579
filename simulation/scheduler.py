"""Virtual time. Tasks are threads of which exactly one runs; they take turns where they sleep, so a seed replays exactly."""

from __future__ import annotations

import heapq
import random
import threading
from collections.abc import Callable


class Stopped(BaseException):
    """The world ends: unwinds a task wherever it sleeps."""


class Task:
    """One line of execution inside the world."""

    def __init__(self, scheduler: Scheduler, work: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._work = work
        self._turn = threading.Semaphore(0)
        self.done = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.wait()
            self._work()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever a task dies of is the world's to report
            self._scheduler.crash = error
        self.done = True
        self._scheduler.turn_back()

    def wait(self) -> None:
        """Sleep until it is this task's turn."""
        self._turn.acquire()
        if self._scheduler.stopping:
            raise Stopped

    def take_turn(self) -> None:
        """Let the task run until it sleeps or ends."""
        self._turn.release()


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
        self._back = threading.Semaphore(0)
        self._tasks: list[Task] = []

    def at(self, moment: int, action: Callable[[], object]) -> None:
        """Do something at a moment (ms); the seed orders what falls on the same one."""
        self._number += 1
        heapq.heappush(self._heap, (max(moment, self.now), self.rng.random(), self._number, action))

    def spawn(self, work: Callable[[], None]) -> Task:
        """Start a task now."""
        task = Task(self, work)
        self._tasks = [one for one in self._tasks if not one.done]
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
        self.turn_back()
        task.wait()

    def turn_back(self) -> None:
        """The running task hands its turn back."""
        self._back.release()

    def _resume(self, task: Task) -> None:
        self.current = task
        task.take_turn()
        self._back.acquire()
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
            if not task.done:
                task.take_turn()
            task.thread.join()
