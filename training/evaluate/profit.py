"""Profit of a cut-off, swap set of two models, and vintages by month of origination."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candor.clock import parse_rfc3339
from training.dataset.read import TrainingSet
from training.dataset.split import Floats
from training.fit.calibrate import expected_profit
from training.metrics.discrimination import months
from training.metrics.intervals import rate_interval

Labels = NDArray[np.int8]

STEPS: Final = 20
SENSITIVITY: Final = (0.75, 1.0, 1.25)


def profit(bad: Labels, pd: Floats, cutoff: float, income: float, loss: float) -> dict[str, Any]:
    """Realised profit at the cut-off and along the curve; `income` and `loss` are shares of the amount lent.

    A row of `sensitivity` is the best cut-off of the curve for a higher or lower loss of a bad loan.
    """
    curve = [_at(bad, pd, float(threshold), income, loss) for threshold in _cutoffs(pd)]
    return {
        **_at(bad, pd, cutoff, income, loss),
        "income": income,
        "loss": loss,
        "curve": curve,
        "sensitivity": [_best(bad, pd, income, loss * factor) for factor in SENSITIVITY],
    }


def _cutoffs(pd: Floats) -> Floats:
    return np.unique(np.quantile(pd, np.linspace(1.0 / STEPS, 1.0, STEPS)))


def _at(bad: Labels, pd: Floats, cutoff: float, income: float, loss: float) -> dict[str, Any]:
    approved = pd <= cutoff
    return {
        "cutoff": cutoff,
        "approval_rate": float(approved.mean()),
        "bad_rate": _rate(bad[approved]),
        "profit_per_unit": expected_profit(bad, pd, cutoff, income, loss),
    }


def _best(bad: Labels, pd: Floats, income: float, loss: float) -> dict[str, Any]:
    curve = [_at(bad, pd, float(threshold), income, loss) for threshold in _cutoffs(pd)]
    return {"loss": loss, **max(curve, key=lambda point: float(point["profit_per_unit"]))}


def swap_set(bad: Labels, challenger: NDArray[np.bool_], champion: NDArray[np.bool_]) -> dict[str, Any]:
    """Applicants approved by both, by neither, and, with bad rates, by challenger (`in`) or champion (`out`) only."""
    swapped_in, swapped_out = challenger & ~champion, champion & ~challenger
    return {
        "both": int((challenger & champion).sum()),
        "neither": int((~challenger & ~champion).sum()),
        "in": {"n": int(swapped_in.sum()), "bad_rate": _rate(bad[swapped_in])},
        "out": {"n": int(swapped_out.sum()), "bad_rate": _rate(bad[swapped_out])},
    }


def _rate(bad: Labels) -> float | None:
    return float(bad.mean()) if len(bad) else None


def vintages(data: TrainingSet) -> list[dict[str, Any]]:
    """Bad rate by month of origination, with its 95 % interval (`low`, `high`). A month is mature once its last loan is as old as the slowest label."""
    month = months(data.q)
    longest = int(np.max(data.known_at - data.q))
    return [_vintage(data, str(value), month == value, longest) for value in sorted(set(month.tolist()))]


def _vintage(data: TrainingSet, month: str, chosen: NDArray[np.bool_], longest: int) -> dict[str, Any]:
    bad = data.bad[chosen]
    interval = rate_interval(int(bad.sum()), len(bad))
    return {
        "month": month,
        "n": len(bad),
        "bads": int(bad.sum()),
        "bad_rate": float(bad.mean()),
        "low": interval.low,
        "high": interval.high,
        "mature": _end_of(month) + longest <= data.as_of,
    }


def _end_of(month: str) -> int:
    year, number = int(month[:4]), int(month[5:])
    year, number = (year + 1, 1) if number == 12 else (year, number + 1)
    return parse_rfc3339(f"{year:04d}-{number:02d}-01T00:00:00Z")
