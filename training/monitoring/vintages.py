"""Vintages: loans by month of origination, and by their age when the label was known.

A label is known at the loan's last due date plus grace, good and bad alike: before that a loan is immature, whatever
was paid. It counts for neither side, and every cell has the number of immature loans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candor.clock import DAY, SECOND
from training.metrics.intervals import ConfidenceInterval, rate_interval
from training.monitoring.figures import Floats, bad_rate_ratio

AGE_DAYS: Final = 15
"""Width of one age step, in days."""


@dataclass(frozen=True)
class Loans:
    """One row per loan: origination and the moment its label is known (ms UTC), whether it turned bad, its PD.

    `bad` has no meaning before `known_at`.
    """

    began: NDArray[np.int64]
    known_at: NDArray[np.int64]
    bad: NDArray[np.bool_]
    pd: Floats


@dataclass(frozen=True)
class Cell:
    """Loans whose label is known at an age of `days` or less: the `mature` with their `bads`, and the `awaited`."""

    days: int
    mature: int
    bads: int
    awaited: int

    @property
    def censored(self) -> bool:
        """True if some of these loans are not mature yet, so that the rate may change."""
        return self.awaited > 0

    @property
    def bad_rate(self) -> float | None:
        return self.bads / self.mature if self.mature else None


@dataclass(frozen=True)
class Vintage:
    """Loans originated in one month (UTC). `bads` and `predicted`, the mean PD, are of the mature loans.

    `ratio` is bads over expected bads, None without a mature loan.
    """

    month: str
    loans: int
    mature: int
    bads: int
    bad_rate: float | None
    bad_rate_interval: ConfidenceInterval | None
    predicted: float | None
    ratio: float | None
    ratio_interval: ConfidenceInterval | None
    by_age: Sequence[Cell]

    @property
    def immature(self) -> int:
        return self.loans - self.mature


def vintages(loans: Loans, observed_until: int) -> list[Vintage]:
    """Vintages by what was known at `observed_until` (ms UTC), the earliest month first."""
    months = np.array([month_of(began) for began in loans.began.tolist()], dtype=object)
    ages = _ages(loans)
    return [_vintage(month, loans, months == month, ages, observed_until) for month in sorted(set(months))]


def month_of(ms: int) -> str:
    """Month (UTC) of a moment, such as 2026-11."""
    return datetime.fromtimestamp(ms / SECOND, UTC).strftime("%Y-%m")


def _ages(loans: Loans) -> list[int]:
    """Upper bounds (days) of the age steps in which labels become known."""
    if not len(loans.began):
        return []
    steps = np.ceil((loans.known_at - loans.began) / (AGE_DAYS * DAY)).astype(int)
    return [AGE_DAYS * int(step) for step in range(int(steps.min()), int(steps.max()) + 1)]


def _vintage(
    month: str, loans: Loans, in_month: NDArray[np.bool_], ages: Sequence[int], observed_until: int
) -> Vintage:
    began, known_at, bad = loans.began[in_month], loans.known_at[in_month], loans.bad[in_month]
    is_known = known_at < observed_until
    mature, bads = int(is_known.sum()), int(bad[is_known].sum())
    expected = float(loans.pd[in_month][is_known].sum())
    ratio, interval = bad_rate_ratio(bads, expected) if mature else (None, None)
    cells = []
    for days in ages:
        inside = known_at - began <= days * DAY
        cells.append(
            Cell(
                days,
                int((inside & is_known).sum()),
                int(bad[inside & is_known].sum()),
                int((inside & ~is_known).sum()),
            )
        )
    return Vintage(
        month=month,
        loans=len(began),
        mature=mature,
        bads=bads,
        bad_rate=bads / mature if mature else None,
        bad_rate_interval=rate_interval(bads, mature) if mature else None,
        predicted=expected / mature if mature else None,
        ratio=ratio,
        ratio_interval=interval,
        by_age=cells,
    )
