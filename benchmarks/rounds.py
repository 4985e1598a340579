"""Timing method: CPU, interleaved, median of rounds, so that a busy machine disturbs all rows alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

Limits = Literal["value at most", "ratio at most", "ratio at least"]


@dataclass(frozen=True)
class Measurement:
    """Row of the report: value (µs of CPU per call unless `unit` says otherwise), reference and budget.

    `ratio` is the value over its reference's, or the other way round where the budget is a ratio at least.
    """

    benchmark: str
    name: str
    value: float
    reference: str | None = None
    ratio: float | None = None
    budget: float | None = None
    unit: str = "µs"
    limits: Limits = "value at most"

    @property
    def ok(self) -> bool | None:
        """True if the budget is kept; None without a budget."""
        if self.budget is None:
            return None
        if self.limits == "value at most":
            return self.value <= self.budget
        assert self.ratio is not None, f"{self.name} has a budget of its ratio, and none"
        return self.ratio <= self.budget if self.limits == "ratio at most" else self.ratio >= self.budget


def interleaved(calls: Mapping[str, Callable[[], int]], rounds: int = 9) -> dict[str, float]:
    """CPU µs per unit of work; each callable does some work and returns its units."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            before = time.process_time_ns()
            units = call()
            spent = time.process_time_ns() - before
            if number > 0:  # the first round warms caches and branch predictors
                samples[name].append(spent / units / 1_000)
    return {name: median(durations) for name, durations in samples.items()}
