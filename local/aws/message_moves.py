"""Tasks that move dead letters to another queue: SQS's StartMessageMoveTask on durable queues."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from local.aws.sqs import DurableQueue, now_ms

log = logging.getLogger(__name__)

PER_SECOND = 500
"""SQS's highest rate of messages."""

UNKNOWN_ORIGIN = "CouldNotDetermineMessageSource"
"""SQS's failure reason for a message that no redrive policy moved, when no destination is named."""

_PAGE = 10
_KEPT_TASKS = 10


class TaskRunning(Exception):
    """The queue has a running task, and SQS permits one."""


class UnknownTask(Exception):
    """No task that runs has this handle."""


@dataclass(eq=False)
class MoveTask:
    """One task. `destination` is None if each message returns to the queue that it came from."""

    source: DurableQueue
    destination: DurableQueue | None
    per_second: int | None
    to_move: int
    handle: str = field(default_factory=lambda: str(uuid.uuid4()))
    started_at: int = field(default_factory=now_ms)
    status: str = "RUNNING"
    moved: int = 0
    failure: str | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class MessageMoves:
    """The tasks of an account. `queue_of` returns a queue by its ARN, or None. Thread-safe.

    A task moves the messages that were visible at its start, so that a message which is refused once more does not
    travel in a circle. A restart forgets tasks: what they did not move is still in the dead-letter queue.
    """

    def __init__(self, queue_of: Callable[[str], DurableQueue | None]) -> None:
        self._queue_of = queue_of
        self._lock = threading.Lock()
        self._tasks: list[MoveTask] = []
        self._threads: list[threading.Thread] = []

    def start(
        self, source: DurableQueue, destination: DurableQueue | None, per_second: int | None = None
    ) -> MoveTask:
        """Start a task. Raises TaskRunning."""
        with self._lock:
            if any(task.source is source and task.status == "RUNNING" for task in self._tasks):
                raise TaskRunning
            numbers = source.visible()
            task = MoveTask(source, destination, per_second, len(numbers))
            self._tasks.insert(0, task)
            thread = threading.Thread(
                target=self._run, args=(task, numbers), name=f"move-{source.name}", daemon=True
            )
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()
        return task

    def tasks_of(self, source: DurableQueue) -> list[MoveTask]:
        """The queue's latest tasks, newest first."""
        with self._lock:
            return [task for task in self._tasks if task.source is source][:_KEPT_TASKS]

    def cancel(self, handle: str) -> MoveTask:
        """Stop a running task; messages that it moved stay moved. Raises UnknownTask."""
        with self._lock:
            task = next((each for each in self._tasks if each.handle == handle), None)
        if task is None or task.status != "RUNNING":
            raise UnknownTask
        task.cancelled.set()
        return task

    def close(self) -> None:
        """Cancel every task, and wait for its last page."""
        for task in self._tasks:
            task.cancelled.set()
        for thread in self._threads:
            thread.join()

    def _run(self, task: MoveTask, numbers: list[int]) -> None:
        try:
            task.status = self._moved(task, numbers)
        except Exception as error:  # a task that stays RUNNING would block the queue's next
            log.exception("moving the messages of %s failed", task.source.arn)
            task.failure, task.status = type(error).__name__, "FAILED"

    def _moved(self, task: MoveTask, numbers: list[int]) -> str:
        """Move the messages; returns the status that the task ends with."""
        page = min(_PAGE, task.per_second or _PAGE)
        pause_s = page / (task.per_second or PER_SECOND)
        for start in range(0, len(numbers), page):
            if task.cancelled.is_set():
                return "CANCELLED"
            if not self._move(task, numbers[start : start + page]):
                return "FAILED"
            task.cancelled.wait(pause_s)
        return "COMPLETED"

    def _move(self, task: MoveTask, numbers: list[int]) -> bool:
        """Move a page; False at a message whose queue is not known."""
        for number in numbers:
            origin = task.source.origin_of(number)
            target = task.destination  # compared with None: an empty queue is false
            if target is None and origin is not None:
                target = self._queue_of(origin)
            if target is None:
                task.failure = UNKNOWN_ORIGIN
                return False
            task.moved += task.source.move(number, target)
        return True
