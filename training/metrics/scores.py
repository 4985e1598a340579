"""Metrics of scores: pure functions over labels (1 = bad) and scores (higher = riskier)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BootstrapInterval:
    """Bootstrap percentile interval, and the standard deviation of the resampled metric."""

    low: float
    high: float
    sd: float


@dataclass(frozen=True)
class CalibrationBin:
    """One equal-count bin of a calibration table: mean predicted PD and observed bad rate."""

    n: int
    bads: int
    predicted: float
    observed: float


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the probability that a bad scores above a good, ties counting half."""
    return float(roc_auc_score(labels, scores))


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, *, rounds: int = 1_000, level: float = 0.95, seed: int = 0
) -> BootstrapInterval:
    """Percentile bootstrap of the AUC, stratified: bads and goods are resampled separately, so both always occur.

    `scores` may be models by rows: the metric is then the mean of the models' AUCs, on the same resamples.
    Each round is one pass over the ranks (Mann–Whitney), equal to the AUC of the resample.
    """
    models = np.atleast_2d(np.asarray(scores, dtype=float))
    bads, goods = _by_label(labels)
    generator = np.random.default_rng(seed)
    rounds_of = [
        _mean_auc(models, generator.choice(bads, len(bads)), generator.choice(goods, len(goods)))
        for _ in range(rounds)
    ]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(rounds_of, [tail, 1.0 - tail])
    return BootstrapInterval(float(low), float(high), float(np.std(rounds_of)))


def auc_difference(
    labels: ArrayLike, challenger: ArrayLike, champion: ArrayLike, *, rounds: int = 1_000, seed: int = 0
) -> BootstrapInterval:
    """95 % percentile interval of AUC(challenger) − AUC(champion) by a paired, stratified bootstrap."""
    first, second = np.asarray(challenger, dtype=float), np.asarray(champion, dtype=float)
    bads, goods = _by_label(labels)
    generator = np.random.default_rng(seed)
    differences = []
    for _ in range(rounds):
        bad, good = generator.choice(bads, len(bads)), generator.choice(goods, len(goods))
        differences.append(_auc_of(first[bad], first[good]) - _auc_of(second[bad], second[good]))
    low, high = np.quantile(differences, [0.025, 0.975])
    return BootstrapInterval(float(low), float(high), float(np.std(differences)))


def ks(labels: ArrayLike, scores: ArrayLike) -> float:
    """Kolmogorov–Smirnov distance between the scores of bads and goods."""
    false_positive, true_positive, _ = roc_curve(labels, scores)
    return float(np.max(true_positive - false_positive))


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and outcome."""
    return float(brier_score_loss(labels, probabilities))


def calibration_table(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> list[CalibrationBin]:
    """Predicted against observed in bins of equal count, from the lowest PD to the highest."""
    outcome, predicted = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [
        CalibrationBin(
            len(part), int(outcome[part].sum()), float(predicted[part].mean()), float(outcome[part].mean())
        )
        for part in parts
    ]


def summary(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, Any]:
    """Metrics of one model on one period, ready for JSON."""
    outcome = np.asarray(labels)
    interval = auc_interval(outcome, probabilities)
    return {
        "n": len(outcome),
        "bads": int(outcome.sum()),
        "auc": auc(outcome, probabilities),
        "auc_low": interval.low,
        "auc_high": interval.high,
        "auc_sd": interval.sd,
        "ks": ks(outcome, probabilities),
        "brier": brier(outcome, probabilities),
        "calibration": [asdict(row) for row in calibration_table(outcome, probabilities)],
    }


def _by_label(labels: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row numbers of the bads and of the goods. Raises ValueError if either is missing."""
    outcome = np.asarray(labels)
    bads, goods = np.flatnonzero(outcome == 1), np.flatnonzero(outcome == 0)
    if not len(bads) or not len(goods):
        raise ValueError("an AUC needs bads and goods")
    return bads, goods


def _mean_auc(models: Floats, bads: NDArray[np.intp], goods: NDArray[np.intp]) -> float:
    return float(np.mean([_auc_of(scores[bads], scores[goods]) for scores in models]))


def _auc_of(bads: Floats, goods: Floats) -> float:
    ordered = np.sort(goods)
    below = np.searchsorted(ordered, bads, side="left")
    not_above = np.searchsorted(ordered, bads, side="right")
    return float((below + not_above).mean() / (2.0 * len(goods)))
