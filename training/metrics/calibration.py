"""Calibration of probabilities: slope, intercept, expected error, and Murphy's decomposition of the Brier score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from candor.model.bundle import Calibration
from training.dataset.split import Floats
from training.metrics.scores import CalibrationBin, brier, calibration_table

Labels = NDArray[np.int8]

_FURTHEST: Final = 40.0


def probabilities(calibration: Calibration, raw: Floats) -> Floats:
    """PDs of raw scores, by the serving code's own function."""
    return np.array([calibration.probability(score) for score in raw.tolist()])


def calibration(bad: Labels, pd: Floats) -> dict[str, Any]:
    """All calibration figures of `pd` against outcomes, with ten bins of equal count."""
    parts = murphy(bad, pd)
    return {
        "n": len(bad),
        "brier": brier(bad, pd),
        "log_loss": float(log_loss(bad, _open(pd), labels=[0, 1])),
        **line(bad, pd),
        "reliability": [asdict(row) for row in calibration_table(bad, pd)],
        "murphy": parts,
        "hosmer_lemeshow": hosmer_lemeshow(bad, pd),
    }


def line(bad: Labels, pd: Floats) -> dict[str, float]:
    """Slope (ideally 1), intercept (ideally 0) and expected calibration error.

    The slope is that of a logistic regression of the outcome on the log odds of `pd`; the intercept is calibration in
    the large: the shift of log odds that makes the mean PD the bad rate. Source: Van Calster et al. 2019, BMC Medicine
    17:230.
    """
    odds = _log_odds(pd)
    regression = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1_000).fit(odds.reshape(-1, 1), bad)
    return {
        "slope": float(regression.coef_[0, 0]),
        "intercept": _shift(bad, odds),
        "ece": expected_error(calibration_table(bad, pd)),
    }


def _shift(bad: Labels, odds: Floats) -> float:
    rate = float(bad.mean())

    def excess(shift: float) -> float:
        return float((1.0 / (1.0 + np.exp(-(odds + shift)))).mean()) - rate

    return float(brentq(excess, -_FURTHEST, _FURTHEST, xtol=1e-10))


def expected_error(bins: Sequence[CalibrationBin]) -> float:
    """Mean distance of predicted PD and bad rate over the bins, weighted by their counts.

    M. P. Naeini, G. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI
    2015; with bins of equal count.
    """
    return sum(row.n * abs(row.predicted - row.observed) for row in bins) / sum(row.n for row in bins)


def murphy(bad: Labels, pd: Floats) -> dict[str, float]:
    """Brier score = reliability − resolution + uncertainty + the loss within the bins. Source: Murphy 1973."""
    table, rate = calibration_table(bad, pd), float(bad.mean())
    reliability = sum(row.n * (row.predicted - row.observed) ** 2 for row in table) / len(bad)
    resolution = sum(row.n * (row.observed - rate) ** 2 for row in table) / len(bad)
    uncertainty = rate * (1.0 - rate)
    return {
        "reliability": reliability,
        "resolution": resolution,
        "uncertainty": uncertainty,
        "within_bins": brier(bad, pd) - (reliability - resolution + uncertainty),
    }


def hosmer_lemeshow(bad: Labels, pd: Floats) -> dict[str, float]:
    """χ² over the ten bins and its p-value (10 degrees of freedom: these rows were not fitted on). Never a gate."""
    table = calibration_table(bad, _open(pd))
    statistic = sum(
        row.n * (row.predicted - row.observed) ** 2 / (row.predicted * (1.0 - row.predicted)) for row in table
    )
    return {"statistic": float(statistic), "p": float(chi2.sf(statistic, len(table)))}


def _open(pd: Floats) -> Floats:
    """Clip PDs strictly between 0 and 1, so that their logarithms exist."""
    return np.clip(pd, 1e-12, 1.0 - 1e-12)


def _log_odds(pd: Floats) -> Floats:
    inside = _open(pd)
    return np.log(inside / (1.0 - inside))
