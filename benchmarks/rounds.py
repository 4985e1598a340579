"""How everything here is timed: CPU, interleaved, median of rounds, so that a busy machine disturbs all rows alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """One line of the report: a figure (µs of CPU per call unless `unit` says otherwise), its peer and its budget."""

    benchmark: str
    name: str
    figure: float
    against: str | None = None
    ratio: float | None = None
    budget: float | None = None
    unit: str = "µs"

    @property
    def met(self) -> bool | None:
        """Whether the figure is within its budget; None without one."""
        return None if self.budget is None else self.figure <= self.budget


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
