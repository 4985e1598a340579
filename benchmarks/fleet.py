"""Processes that share one progress bar."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from benchmarks.bars import bars

J = TypeVar("J")
R = TypeVar("R")
Report = Callable[[int], None]
"""Callback of a process with the units done since the last call."""

_POLL_S = 0.5
_done: Synchronized[int]
"""Units that all processes have done; set in each of them by `_join`."""


def run(
    work: Callable[[J, Report], R],
    jobs: Sequence[J],
    *,
    title: str,
    total: int,
    processes: int | None = None,
) -> list[R]:
    """Results of `work(job, report)`, each job in its own process unless `processes` are fewer; an error ends all.

    `work` must be importable: a module that runs as `__main__` is not.
    """
    context = multiprocessing.get_context("spawn")  # a fork would count the parent's memory as its own
    counter: Synchronized[int] = context.Value("q", 0)
    with ProcessPoolExecutor(processes or len(jobs), context, _join, (counter,)) as pool, bars() as progress:
        task = progress.add_task(title, total=total)
        futures = [pool.submit(partial(work, job, report)) for job in jobs]
        while wait(futures, _POLL_S).not_done:
            progress.update(task, completed=min(counter.value, total))
            _raise_early(futures)
        progress.update(task, completed=total)
    return [future.result() for future in futures]


def report(units: int) -> None:
    """Count units as done; only in a process of a fleet."""
    with _done.get_lock():
        _done.value += units


def _join(counter: Synchronized[int]) -> None:
    global _done  # noqa: PLW0603 - a pool gives its processes shared memory in no other way
    _done = counter


def _raise_early(futures: Sequence[Future[R]]) -> None:
    for future in futures:
        if future.done():
            future.result()
