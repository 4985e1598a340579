"""Many worlds in parallel."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from simulation.world import WorldResult, run

LAST_STEPS = 25


def results_of(seeds: Sequence[int], planted: str | None, jobs: int) -> Iterator[WorldResult]:
    """Yield each world's outcome, in the order of the seeds; with the last steps of failures only."""
    work = functools.partial(_last_steps, planted=planted)
    if jobs == 1:
        yield from map(work, seeds)
        return
    # A world patches constants of candor while it runs, so it needs a process of its own; threads will not do.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, seeds, chunksize=5)


def _last_steps(seed: int, planted: str | None) -> WorldResult:
    result = run(seed, planted)
    return replace(result, trace=result.trace[-LAST_STEPS:] if result.violation else [])
