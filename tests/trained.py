"""A small real bundle: LightGBM trained in a moment on rows whose risk is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np

from candor import Definitions, Reason
from candor.model.bundle import Bundle, Calibration
from candor.model.lightgbm import Booster
from candor.principal_reasons import reason_basis
from candor.reasons import Catalogue, Monotone

ANY_DIRECTION = Monotone()
ROWS = 600
TREES = 12
CALIBRATION = Calibration(slope=1.1, intercept=-0.1)


def train(
    definitions: Definitions,
    policy: Mapping[str, Any],
    reasons: Sequence[Reason],
    drivers: Mapping[str, float],
    seed: int = 7,
    monotone: Monotone = ANY_DIRECTION,
) -> Bundle:
    """A bundle whose risk rises with the `drivers` (riskiest value by feature); half of its rows exceed the cut-off."""
    rows, bad = _population(definitions, drivers, seed)
    columns = list(definitions.features)
    parameters = {
        "objective": "binary",
        "num_leaves": 7,
        "min_data_in_leaf": 5,
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(rows, bad, feature_name=columns)
    model = lightgbm.train(parameters, data, num_boost_round=TREES).model_to_string()
    with Booster(model) as booster:
        scores = [CALIBRATION.probability(booster.raw(row)) for row in rows.tolist()]
        cutoff = float(np.median(scores))
        near = sorted(rows.tolist(), key=lambda row: abs(CALIBRATION.probability(booster.raw(row)) - cutoff))
        parts = np.mean([booster.contributions(row)[:-1] for row in near[:50]], axis=0)
    return Bundle(
        model=model,
        features=definitions.features,
        definition_hash=definitions.hash,
        calibration=CALIBRATION,
        cutoff=cutoff,
        reason_reference=Catalogue(reasons, columns).by_factor(parts.tolist()),
        reason_basis=reason_basis(definitions, monotone, parts.tolist()),
        policy=policy,
        reasons=tuple(reasons),
        metrics={"auc": 0.7},
        lineage={"run": f"test-{seed}"},
    )


def _population(
    definitions: Definitions, drivers: Mapping[str, float], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = random.uniform(0.0, 10.0, size=(ROWS, len(definitions.features)))
    rows[random.random(rows.shape) < 0.1] = np.nan
    risk = random.normal(0.0, 0.1, size=ROWS)
    for name, scale in drivers.items():
        share = random.uniform(0.0, 1.0, size=ROWS)
        rows[:, definitions.features.index(name)] = share * scale
        risk += share
    return rows, risk > np.median(risk)
