"""Progress on standard error, once there was something to wait for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Self, TypeVar

from rich.console import Console
from rich.progress import Progress, TaskID

T = TypeVar("T")

PATIENCE_S: Final = 2.0
"""What is done sooner shows no progress."""


class Shown:
    """Progress on standard error, once there was something to wait for."""

    def __init__(self) -> None:
        self._progress = Progress(console=Console(stderr=True))
        self._due = time.monotonic() + PATIENCE_S
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def told(self, step: str, done: int, total: int | None = None) -> None:
        """So much of a step is done; `total` where it is known."""
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
        if time.monotonic() >= self._due:
            self._progress.start()

    def each(self, step: str, found: Iterable[T], total: int | None = None) -> Iterator[T]:
        """The same things, counted a hundred at a time."""
        number = 0
        for number, one in enumerate(found, 1):
            if number % 100 == 0:
                self.told(step, number, total)
            yield one
        self.told(step, number, number)
