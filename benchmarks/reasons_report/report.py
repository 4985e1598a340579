"""Report of one data set: frequency of each reason, and its stability across retrained models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import lightgbm
import numpy as np
from msgspec.structs import replace
from sklearn.metrics import roc_auc_score

from benchmarks.reasons_report.datasets import Dataset
from candor.model.lightgbm import Booster
from candor.principal_reasons import PrincipalReasons
from candor.reasons import Catalogue, ReasonBasis

TREES = 200
NEAR = 1_000
"""Passing applicants next to the cut-off whose mean is the reference."""

_PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class FittedModel:
    """Fitted model: engine, cut-off in log odds, and its choice of reasons."""

    booster: Booster
    cutoff: float
    reasons: PrincipalReasons
    auc: float


def fit(
    dataset: Dataset,
    seed: int,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    monotone: bool,
) -> FittedModel:
    """Fit with this seed on a random four fifths of the training rows."""
    values, labels = train
    kept = np.random.default_rng(seed).random(len(labels)) < 0.8
    parameters = _PARAMETERS | {"seed": seed}
    if monotone:
        parameters |= {
            "monotone_constraints": dataset.constraints(),
            "monotone_constraints_method": "advanced",
        }
    data = lightgbm.Dataset(values[kept], labels[kept], feature_name=list(dataset.features))
    package = lightgbm.train(parameters, data, num_boost_round=TREES)
    raw = np.asarray(package.predict(values[kept], raw_score=True))
    cutoff = float(np.quantile(raw, 1.0 - dataset.declined))
    passing = values[kept][raw <= cutoff][np.argsort(raw[raw <= cutoff])[-NEAR:]]
    booster = Booster(package.model_to_string())
    parts = np.mean([booster.contributions(row)[:-1] for row in passing.tolist()], axis=0)
    basis = replace(
        ReasonBasis.empty(len(dataset.features)), reference=tuple(parts.tolist()), adverse=dataset.adverse()
    )
    chooser = PrincipalReasons(Catalogue(dataset.reasons, dataset.features), basis, slope=1.0)
    return FittedModel(booster, cutoff, chooser, float(roc_auc_score(test[1], package.predict(test[0]))))


def report(dataset: Dataset, folder: Path, retrains: int, applicants: int) -> dict[str, Any]:
    """Figures of the report, on `applicants` of the test rows."""
    values, labels = dataset.rows(folder)
    tested = np.random.default_rng(0).random(len(labels)) < 0.3
    train, test = (values[~tested], labels[~tested]), (values[tested], labels[tested])
    models = [fit(dataset, seed, train, test, monotone=True) for seed in range(1, retrains + 1)]
    free = fit(dataset, 1, train, test, monotone=False)
    rows = test[0][:applicants].tolist()
    reasons = [_reasons_by_applicant(model, rows) for model in models]
    first = list(reasons[0].values())
    return {
        "dataset": dataset.name,
        "rows": len(labels),
        "applicants": len(rows),
        "declined": len(first),
        "auc": {"monotone": models[0].auc, "free": free.auc},
        "reasons_per_decline": fmean(map(len, first)),
        "without_reason": sum(not codes for codes in first),
        "frequency": _frequency(first),
        "top_1": _shares_of([codes[0] for codes in first]),
        "stability": stability(reasons),
        "additivity": max(_additivity(models[0].booster, row) for row in rows),
    }


def _reasons_by_applicant(model: FittedModel, rows: Sequence[Sequence[float]]) -> dict[int, list[str]]:
    """Reason codes of the applicants that the model declines, by row number."""
    return {
        number: model.reasons.codes(model.booster.contributions(row)[:-1], row, {})
        for number, row in enumerate(rows)
        if model.booster.raw(row) > model.cutoff
    }


def _frequency(declines: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of declines that give each code."""
    counts = Counter(code for codes in declines for code in codes)
    return {code: count / len(declines) for code, count in counts.most_common()}


def _shares_of(codes: Sequence[str]) -> dict[str, float]:
    return {code: count / len(codes) for code, count in Counter(codes).most_common()}


def stability(models: Sequence[dict[int, list[str]]]) -> dict[str, float]:
    """Means over pairs of models: Jaccard index of the declined, and of the reasons of applicants declined by both."""
    samples: dict[str, list[float]] = {"declined": [], "reasons": [], "same_first": [], "same_set": []}
    for first, second in combinations(models, 2):
        both = first.keys() & second.keys()
        samples["declined"].append(len(both) / len(first.keys() | second.keys()))
        pairs = [(first[applicant], second[applicant]) for applicant in both]
        samples["reasons"] += [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in pairs]
        samples["same_first"] += [float(a[0] == b[0]) for a, b in pairs]
        samples["same_set"] += [float(set(a) == set(b)) for a, b in pairs]
    return {name: fmean(each) for name, each in samples.items() if each}


def _additivity(booster: Booster, row: Sequence[float]) -> float:
    return abs(sum(booster.contributions(row)) - booster.raw(row))
