"""How everything here is timed: CPU, interleaved, median of rounds, so that a busy machine disturbs all rows alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """One line of the report: microseconds of CPU per call, and what it is measured against."""

    benchmark: str
    name: str
    cpu_us: float
    against: str | None = None
    ratio: float | None = None


def interleaved(calls: Mapping[str, Callable[[], int]], rounds: int = 9) -> dict[str, float]:
    """CPU µs per unit of work; each callable does some work once and says how many units it did."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            before = time.process_time_ns()
            units = call()
            spent = time.process_time_ns() - before
            if number > 0:  # the first round warms caches and branch predictors
                samples[name].append(spent / units / 1_000)
    return {name: median(found) for name, found in samples.items()}
