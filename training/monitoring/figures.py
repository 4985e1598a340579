"""Figures that compare what is served with what a model was trained on. Pure functions over arrays; NaN is missing.

Each docstring names where its formula comes from. No figure is told without what chance alone would make of it: a small
population differs from any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from training.evaluate import CalibrationBin, calibration_table

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

WATCH: Final = 0.10
ACT: Final = 0.25
"""PSI from which a shift is watched, and acted on (N. Siddiqi, Credit Risk Scorecards, Wiley 2006)."""

BINS: Final = 10
BY_VALUE: Final = 10
"""Features of at most so many values have a bin for each of them."""

LEVEL: Final = 0.95
FEWEST_OF_EACH: Final = 10
"""Bads and goods without which no calibration is told."""

_STEPS: Final = 50
_LEAST_PD: Final = 1e-12


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float

    def beyond(self, expected: float) -> float:
        """How far all of the interval is from what was expected; 0 if it holds it."""
        return max(self.low - expected, expected - self.high, 0.0)


@dataclass(frozen=True)
class Bins:
    """Bins frozen on a snapshot, then one for missing values.

    `by_value`: a bin for each of `edges` and one for all other values; else bins up to and including each edge, the last
    without an upper end.
    """

    edges: tuple[float, ...]
    by_value: bool

    @classmethod
    def frozen(cls, snapshot: ArrayLike, bins: int = BINS) -> Bins:
        """Equal-count bins of the snapshot's known values. A value that fills several of them has one."""
        values = np.asarray(snapshot, dtype=float)
        known = values[~np.isnan(values)]
        distinct = np.unique(known)
        if len(distinct) <= BY_VALUE:
            return cls(tuple(distinct.tolist()), by_value=True)
        # A value of the snapshot each, so that a tie falls on one side for certain.
        edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf"))
        return cls(tuple(edges[edges < distinct[-1]].tolist()), by_value=False)

    def counts(self, values: ArrayLike) -> Counts:
        """How many values each bin holds; the last one counts the missing."""
        found = np.asarray(values, dtype=float)
        known = found[~np.isnan(found)]
        edges = np.array(self.edges)
        place = np.searchsorted(edges, known, side="left")
        if self.by_value:
            inside = place < len(edges)
            inside[inside] = edges[place[inside]] == known[inside]
            place = np.where(inside, place, len(edges))
        return np.append(np.bincount(place, minlength=len(edges) + 1), len(found) - len(known))

    def labels(self) -> list[str]:
        """What each bin holds, in words."""
        shown = [f"{edge:.6g}" for edge in self.edges]
        if self.by_value:
            return [*shown, "other", "missing"]
        return [*(f"≤ {edge}" for edge in shown), f"> {shown[-1]}" if shown else "any", "missing"]


def psi(before: ArrayLike, now: ArrayLike) -> float:
    """Population stability index of two rows of bin counts: Σ (now − before) · ln(now / before) over their shares.

    Siddiqi 2006; it is the symmetric divergence J of S. Kullback and R. Leibler, On information and sufficiency, 1951.
    The logarithm of an empty bin is not defined: it counts as half an observation. One that is empty on both sides counts nothing.
    """
    p, q = (_shares(counts) for counts in _filled(before, now))
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(before: ArrayLike, now: ArrayLike) -> float:
    """Jensen-Shannon distance of two rows of bin counts, with logarithms to base 2: 0 for equal shares, 1 for disjoint ones.

    The square root of the divergence of J. Lin, Divergence measures based on the Shannon entropy, 1991; the root is a
    metric (D. Endres and J. Schindelin, 2003). Defined for empty bins.
    """
    p, q = _shares(np.asarray(before, dtype=float)), _shares(np.asarray(now, dtype=float))
    middle = (p + q) / 2.0
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2.0
    return math.sqrt(max(divergence, 0.0))


def psi_by_chance(before: ArrayLike, now: ArrayLike, level: float) -> float:
    """The PSI that two samples of one population, as large as these, exceed with probability 1 − `level`.

    Without a shift, PSI / (1/n + 1/m) follows χ² of bins − 1 degrees of freedom: B. Yurdakul and J. Naranjo, Statistical
    properties of the population stability index, Journal of Risk Model Validation 14 (4), 2020.
    """
    one, other = np.asarray(before), np.asarray(now)
    bins = int(np.count_nonzero(one + other))
    if bins < 2:
        return 0.0
    return float(stats.chi2.ppf(level, bins - 1) * (1.0 / one.sum() + 1.0 / other.sum()))


def state_of(index: float, by_chance: float) -> str:
    """`stable`, `watch` or `act` by PSI; `unclear` for one that would be watched if chance did not explain it."""
    if index < WATCH:
        return "stable"
    if index <= by_chance:
        return "unclear"
    return "act" if index >= ACT else "watch"


@dataclass(frozen=True)
class Calibration:
    """How predicted PDs hold against outcomes.

    `predicted` and `observed` are mean PD and bad rate, `ratio` is observed over predicted. Slope and intercept are of the
    outcome's log odds on those of the PD: 1 and 0 if it is calibrated; a slope below 1 means that PDs are too extreme.
    None where there are too few of either outcome.
    """

    n: int
    bads: int
    predicted: float
    observed: float
    ratio: float
    ratio_interval: Interval
    slope: float | None
    slope_interval: Interval | None
    intercept: float | None
    ece: float
    reliability: list[CalibrationBin]


def calibration(bad: ArrayLike, pd: ArrayLike) -> Calibration | None:
    """Calibration of PDs whose outcome is known; None without any."""
    outcome, predicted = np.asarray(bad, dtype=float), np.asarray(pd, dtype=float)
    if not len(outcome):
        return None
    bads = int(outcome.sum())
    line = _regression(outcome, predicted) if min(bads, len(outcome) - bads) >= FEWEST_OF_EACH else None
    bins = calibration_table(outcome, predicted)
    ratio, interval = bad_rate_ratio(bads, float(predicted.sum()))
    return Calibration(
        n=len(outcome),
        bads=bads,
        predicted=float(predicted.mean()),
        observed=float(outcome.mean()),
        ratio=ratio,
        ratio_interval=interval,
        slope=None if line is None else line[0],
        slope_interval=None if line is None else line[1],
        intercept=None if line is None else line[2],
        ece=expected_calibration_error(bins),
        reliability=bins,
    )


def expected_calibration_error(bins: list[CalibrationBin]) -> float:
    """Mean distance of predicted PD and bad rate over the bins, weighted by their counts.

    M. P. Naeini, G. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015;
    with bins of equal count.
    """
    total = sum(one.n for one in bins)
    return sum(one.n * abs(one.observed - one.predicted) for one in bins) / total


def bad_rate_ratio(bads: int, expected: float, level: float = LEVEL) -> tuple[float, Interval]:
    """Bads over expected bads, with the exact Poisson interval of F. Garwood (1936), as of a standardised mortality ratio.

    N. Breslow and N. Day, Statistical methods in cancer research II, 1987, section 2.3. Wider than a binomial's: it errs to silence.
    """
    tail = (1.0 - level) / 2.0
    low = float(stats.chi2.ppf(tail, 2 * bads)) / 2.0 if bads else 0.0
    high = float(stats.chi2.ppf(1.0 - tail, 2 * (bads + 1))) / 2.0
    return bads / expected, Interval(low / expected, high / expected)


def rate_interval(part: int, whole: int, level: float = LEVEL) -> Interval:
    """Interval of a share: E. B. Wilson, Probable inference, 1927."""
    if not whole:
        return Interval(0.0, 1.0)
    z = float(stats.norm.ppf((1.0 + level) / 2.0))
    share, weight = part / whole, z * z / whole
    middle = (share + weight / 2.0) / (1.0 + weight)
    width = z * math.sqrt(share * (1.0 - share) / whole + weight / (4.0 * whole)) / (1.0 + weight)
    return Interval(max(middle - width, 0.0), min(middle + width, 1.0))


def rate_difference(
    part: int, whole: int, part_before: int, whole_before: int, level: float = LEVEL
) -> tuple[float, Interval]:
    """A share less the one before, with the hybrid score interval of R. Newcombe (Statistics in Medicine 17, 1998), method 10."""
    now, before = part / whole, part_before / whole_before
    one, other = rate_interval(part, whole, level), rate_interval(part_before, whole_before, level)
    difference = now - before
    low = difference - math.hypot(now - one.low, other.high - before)
    high = difference + math.hypot(one.high - now, before - other.low)
    return difference, Interval(low, high)


def missing_rate(values: ArrayLike) -> float:
    """Share of the values that are NaN."""
    found = np.asarray(values, dtype=float)
    return float(np.isnan(found).mean()) if len(found) else 0.0


def _regression(outcome: Floats, pd: Floats) -> tuple[float, Interval, float] | None:
    """Slope with its Wald interval, and intercept, of a logistic regression of the outcome on the PD's log odds.

    D. R. Cox, Two further applications of a model for binary regression, Biometrika 45, 1958. By Newton's method, for
    which the information matrix also tells the slope's standard error. None where it does not end: the PDs are all alike,
    or they tell the outcomes apart without fault.
    """
    odds = special.logit(np.clip(pd, _LEAST_PD, 1.0 - _LEAST_PD))
    if np.ptp(odds) == 0.0:
        return None
    columns = np.column_stack([np.ones_like(odds), odds])
    found = np.array([special.logit(outcome.mean()), 0.0])  # from (0, 1) it may leap away
    for _ in range(_STEPS):
        fitted = special.expit(columns @ found)
        information = columns.T @ (columns * (fitted * (1.0 - fitted))[:, None])
        try:
            step = np.linalg.solve(information, columns.T @ (outcome - fitted))
            error = math.sqrt(np.linalg.inv(information)[1, 1])
        except (np.linalg.LinAlgError, ValueError):
            return None
        found = found + step
        if np.max(np.abs(step)) < 1e-10:
            width = float(stats.norm.ppf((1.0 + LEVEL) / 2.0)) * error
            return float(found[1]), Interval(found[1] - width, found[1] + width), float(found[0])
    return None


def _filled(before: ArrayLike, now: ArrayLike) -> tuple[Floats, Floats]:
    """Counts of the bins that hold anything, half an observation in those that are empty on one side."""
    one, other = np.asarray(before, dtype=float), np.asarray(now, dtype=float)
    held = (one + other) > 0.0
    return np.maximum(one[held], 0.5), np.maximum(other[held], 0.5)


def _shares(counts: Floats) -> Floats:
    return np.asarray(counts / counts.sum())


def _relative_entropy(p: Floats, q: Floats) -> float:
    held = p > 0.0
    return float(np.sum(p[held] * np.log2(p[held] / q[held])))
