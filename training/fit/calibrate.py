"""Parameters fitted around the trees: Platt calibration, the cut-off, the reason reference."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from candor.model.bundle import Calibration
from candor.model.engine import ScoringEngine
from training.dataset.split import CannotLearn, Floats

_NEIGHBOURS: Final = (30, 500)
_NEIGHBOUR_SHARE: Final = 0.05


def calibrate(raw: Floats, bad: NDArray[np.int8], weight: Floats | None = None) -> Calibration:
    """Platt scaling of raw scores that the model was not fitted on. Raises CannotLearn for a negative slope."""
    regression = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1_000).fit(raw.reshape(-1, 1), bad, weight)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if slope <= 0.0:
        raise CannotLearn(
            "the model ranks the validation period backwards: its signal does not last; load more history"
        )
    return Calibration(slope=slope, intercept=intercept)


def break_even(amount: NDArray[np.int64], charge: NDArray[np.int64], fee: float, loss: float) -> float:
    """The PD above which a loan is expected to lose money: income · (1 − PD) = `loss` · PD.

    Income of a good loan is the mean finance charge plus the merchant's `fee`, `loss` is that of a bad loan; all are
    shares of the amount lent.
    """
    income = fee + float(charge.sum()) / float(amount.sum())
    return income / (income + loss)


def expected_profit(bad: NDArray[np.int8], pd: Floats, cutoff: float, income: float, loss: float) -> float:
    """Realised profit per checkout and unit lent if all applicants at or below the cut-off had been approved."""
    approved = pd <= cutoff
    gain = np.where(bad == 1, -loss, income)
    return float(np.where(approved, gain, 0.0).mean())


def near_cutoff(pd: Floats, cutoff: float) -> NDArray[np.intp]:
    """Row numbers of applicants at or slightly better than the cut-off, the nearest first.

    The nearest 5 % (30 to 500 applicants); where nobody passes, the nearest of those above it.
    """
    distance = np.where(pd <= cutoff, cutoff - pd, 1.0 + pd - cutoff)
    low, high = _NEIGHBOURS
    wanted = min(max(low, int(len(pd) * _NEIGHBOUR_SHARE)), high, max(low, int((pd <= cutoff).sum())))
    return np.argsort(distance, kind="stable")[:wanted]


def mean_contributions(engine: ScoringEngine, values: Floats, pd: Floats, cutoff: float) -> tuple[float, ...]:
    """Mean contribution (log odds) of each feature for applicants near the cut-off.

    Regulation B, comment 9(b)(2)-5 (a).
    """
    nearest = near_cutoff(pd, cutoff)
    rows = [engine.contributions(row)[:-1] for row in values[nearest].tolist()]
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
