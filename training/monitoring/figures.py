"""Figures of observed against expected outcomes. Pure functions over arrays.

Each docstring names the source of its formula. Every figure comes with its sampling noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from training.metrics.calibration import expected_error
from training.metrics.intervals import LEVEL, ConfidenceInterval, rate_interval
from training.metrics.scores import CalibrationBin, calibration_table

Floats = NDArray[np.float64]

FEWEST_OF_EACH: Final = 20
"""Least number of bads and of goods for a calibration slope: ten for each of its two coefficients.

P. Peduzzi and others, Journal of Clinical Epidemiology 49, 1996.
"""

_STEPS: Final = 50
_LEAST_PD: Final = 1e-12


@dataclass(frozen=True)
class CalibrationCheck:
    """Calibration of predicted PDs against outcomes.

    `predicted` and `observed` are mean PD and bad rate, `ratio` is observed over predicted. Slope and intercept are of
    the outcome's log odds on those of the PD: 1 and 0 if calibrated; a slope below 1 means that PDs are too extreme.
    They are None where there are too few of either outcome.
    """

    n: int
    bads: int
    predicted: float
    observed: float
    ratio: float
    ratio_interval: ConfidenceInterval
    slope: float | None
    slope_interval: ConfidenceInterval | None
    intercept: float | None
    ece: float
    reliability: list[CalibrationBin]


def calibration(bad: ArrayLike, pd: ArrayLike) -> CalibrationCheck | None:
    """Calibration of PDs with known outcomes; None if there are none."""
    outcome, predicted = np.asarray(bad, dtype=float), np.asarray(pd, dtype=float)
    if not len(outcome):
        return None
    bads = int(outcome.sum())
    line = _regression(outcome, predicted) if min(bads, len(outcome) - bads) >= FEWEST_OF_EACH else None
    bins = calibration_table(outcome, predicted)
    ratio, interval = bad_rate_ratio(bads, float(predicted.sum()))
    return CalibrationCheck(
        n=len(outcome),
        bads=bads,
        predicted=float(predicted.mean()),
        observed=float(outcome.mean()),
        ratio=ratio,
        ratio_interval=interval,
        slope=None if line is None else line[0],
        slope_interval=None if line is None else line[1],
        intercept=None if line is None else line[2],
        ece=expected_error(bins),
        reliability=bins,
    )


def bad_rate_ratio(bads: int, expected: float, level: float = LEVEL) -> tuple[float, ConfidenceInterval]:
    """Bads over expected bads, with the exact Poisson interval of F. Garwood (1936).

    It is the interval of a standardised mortality ratio: N. Breslow and N. Day, Statistical methods in cancer research
    II, 1987, section 2.3. It is wider than a binomial interval, so alarms are conservative.
    """
    tail = (1.0 - level) / 2.0
    low = float(stats.chi2.ppf(tail, 2 * bads)) / 2.0 if bads else 0.0
    high = float(stats.chi2.ppf(1.0 - tail, 2 * (bads + 1))) / 2.0
    return bads / expected, ConfidenceInterval(low / expected, high / expected)


def rate_difference(
    part: int, whole: int, part_before: int, whole_before: int, level: float = LEVEL
) -> tuple[float, ConfidenceInterval]:
    """Difference of a share to the one before, with its hybrid score interval.

    R. Newcombe, Statistics in Medicine 17, 1998, method 10.
    """
    now, before = part / whole, part_before / whole_before
    now_interval, before_interval = (
        rate_interval(part, whole, level),
        rate_interval(part_before, whole_before, level),
    )
    difference = now - before
    low = difference - math.hypot(now - now_interval.low, before_interval.high - before)
    high = difference + math.hypot(now_interval.high - now, before - before_interval.low)
    return difference, ConfidenceInterval(low, high)


def _regression(outcome: Floats, pd: Floats) -> tuple[float, ConfidenceInterval, float] | None:
    """Slope with its Wald interval, and intercept, of a logistic regression of the outcome on the PD's log odds.

    D. R. Cox, Two further applications of a model for binary regression, Biometrika 45, 1958. By Newton's method, whose
    information matrix also gives the slope's standard error. None where it does not converge: the PDs are all equal, or
    they separate the outcomes perfectly.
    """
    odds = special.logit(np.clip(pd, _LEAST_PD, 1.0 - _LEAST_PD))
    if np.ptp(odds) == 0.0:
        return None
    columns = np.column_stack([np.ones_like(odds), odds])
    coefficients = np.array([special.logit(outcome.mean()), 0.0])  # from (0, 1) it may diverge
    for _ in range(_STEPS):
        fitted = special.expit(columns @ coefficients)
        information = columns.T @ (columns * (fitted * (1.0 - fitted))[:, None])
        try:
            step = np.linalg.solve(information, columns.T @ (outcome - fitted))
            error = math.sqrt(np.linalg.inv(information)[1, 1])
        except (np.linalg.LinAlgError, ValueError):
            return None
        coefficients = coefficients + step
        if np.max(np.abs(step)) < 1e-10:
            width = float(stats.norm.ppf((1.0 + LEVEL) / 2.0)) * error
            return (
                float(coefficients[1]),
                ConfidenceInterval(coefficients[1] - width, coefficients[1] + width),
                float(coefficients[0]),
            )
    return None
