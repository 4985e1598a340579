"""Progress of long commands on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Self, TypeVar

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import TaskID

T = TypeVar("T")

PATIENCE_S: Final = 2.0
"""Steps that end sooner show no progress."""


class Progress:
    """Progress bars on standard error, shown once a command has run for `PATIENCE_S`."""

    def __init__(self) -> None:
        self._progress = RichProgress(console=Console(stderr=True))
        self._due = time.monotonic() + PATIENCE_S
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def update(self, step: str, done: int, total: int | None = None) -> None:
        """Report `done` of `total` units of a step; `total` is None where it is not known."""
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
        if time.monotonic() >= self._due:
            self._progress.start()

    def each(self, step: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Iterate over `items`, reporting progress every hundred."""
        number = 0
        for number, item in enumerate(items, 1):
            if number % 100 == 0:
                self.update(step, number, total)
            yield item
        self.update(step, number, number)
