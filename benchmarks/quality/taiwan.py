"""Taiwan credit cards: 30,000 customers, six months of status, bills and payments; who defaults next month."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from training.fit.recipe import PARAMETERS
from training.metrics.scores import auc, auc_interval

FILE = "UCI_Credit_Card.csv"
LABEL = "Default"
NEVER = ("ID", LABEL, "SEX", "MARRIAGE", "AGE")
"""Regulation B, 12 CFR 1002.5 and 1002.6: no features."""
ROUNDS = 400
FOLDS = 5


def read(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.int8], list[str]]:
    """Values of the columns that may be features, defaults, and the columns' names."""
    with (folder / FILE).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    table = np.array(rows[1:], dtype=np.float64)
    names = [name for name in rows[0] if name not in NEVER]
    places = [rows[0].index(name) for name in names]
    return table[:, places], table[:, rows[0].index(LABEL)].astype(np.int8), names


def measure(folder: Path) -> dict[str, Any]:
    """Mean AUC of five folds, each scored by a model of the four others with the lender's own parameters."""
    values, bad, names = read(folder)
    fold = np.random.default_rng(0).permutation(len(bad)) % FOLDS
    scores = np.zeros(len(bad))
    for number in range(FOLDS):
        data = lightgbm.Dataset(values[fold != number], bad[fold != number])
        model = lightgbm.train({**PARAMETERS, "seed": 1, "num_threads": 1}, data, ROUNDS)
        scores[fold == number] = model.predict(values[fold == number], num_threads=1)
    areas = [auc(bad[fold == number], scores[fold == number]) for number in range(FOLDS)]
    interval = auc_interval(bad, scores, rounds=300)
    return {
        "rows": len(bad),
        "features": len(names),
        "auc": float(np.mean(areas)),
        "auc_per_fold": areas,
        "auc_low": interval.low,
        "auc_high": interval.high,
    }


def lines(figures: dict[str, Any]) -> list[str]:
    """Figures as lines of text."""
    folds = " ".join(f"{area:.4f}" for area in figures["auc_per_fold"])
    interval = f"95 %: {figures['auc_low']:.4f} to {figures['auc_high']:.4f}"
    return [
        f"taiwan: {figures['rows']:,} customers, {figures['features']} features (sex, marriage and age are none)",
        f"auc={figures['auc']:.4f} (mean of five folds: {folds}; {interval})",
    ]
