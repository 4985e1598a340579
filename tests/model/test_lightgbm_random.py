"""The engine against the LightGBM package on random models of all supported splits, missing values and objectives.

`CANDOR_ENGINE_ROWS` is the number of rows over all models: 100,000 is the proof, the test run takes fewer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import lightgbm
import numpy as np
import pytest

from candor.model.lightgbm import Booster
from candor.model.lightgbm_text import served

MODELS = 20
ROWS = int(os.environ.get("CANDOR_ENGINE_ROWS", "4000")) // MODELS
EXPLAINED = ROWS // 10
TRAINED_ON = 1_500


def _rows(random: np.random.Generator, count: int, width: int, categorical: Sequence[int]) -> np.ndarray:
    """Numbers of every magnitude, ties, zeros, infinities and missing values; categories known and never seen."""
    rows = random.normal(size=(count, width)) * 10.0 ** random.integers(-6, 12, width)
    tied = random.random(width) < 0.3
    rows[:, tied] = np.round(rows[:, tied] / np.abs(rows[:, tied]).max(axis=0) * 4.0)
    rows[:, categorical] = random.integers(-1, 60, size=(count, len(categorical)))
    rows[random.random(rows.shape) < random.choice([0.0, 0.1, 0.5])] = np.nan
    rows[random.random(rows.shape) < 0.02] = 0.0
    return rows


def _trained(seed: int) -> tuple[lightgbm.Booster, np.ndarray]:
    """A random model and rows to score, edges among them."""
    random = np.random.default_rng(seed)
    width = int(random.integers(3, 40))
    categorical = sorted(random.choice(width, size=int(random.integers(0, 3)), replace=False).tolist())
    data = _rows(random, TRAINED_ON, width, categorical)
    target = (np.nan_to_num(data) @ (random.normal(size=width) / np.nanstd(data, axis=0)) > 0).astype(int)
    parameters = {
        "objective": "binary", "num_leaves": int(random.integers(2, 64)), "min_data_in_leaf": 5,
        "zero_as_missing": bool(random.random() < 0.3), "use_missing": bool(random.random() < 0.8),
        "max_cat_to_onehot": int(random.choice([2, 64])), "linear_tree": bool(seed % 10 == 9),
        "num_threads": 1, "verbosity": -1, "seed": seed,
    }  # fmt: skip
    dataset = lightgbm.Dataset(data, target, categorical_feature=categorical, params=parameters)
    scored = _rows(random, ROWS, width, categorical)
    numeric = [column for column in range(width) if column not in categorical]
    scored[0], scored[1] = np.nan, 0.0
    scored[2, numeric], scored[3, numeric] = np.inf, -np.inf
    return lightgbm.train(parameters, dataset, int(random.integers(1, 80))), scored


@pytest.mark.parametrize("seed", range(MODELS))
def test_scores_are_bit_equal_and_contributions_within_a_billionth(seed: int) -> None:
    package, rows = _trained(seed)
    expected = package.predict(rows, raw_score=True, num_threads=1)
    with Booster(served(package.model_to_string())) as booster:
        scored = [booster.raw(row) for row in rows.tolist()]
        assert struct.pack(f"{ROWS}d", *scored) == expected.tobytes()
        if seed % 10 == 9:
            return  # LightGBM itself explains no linear trees
        parts = package.predict(rows[:EXPLAINED], pred_contrib=True, num_threads=1)
        contributions = np.array([booster.contributions(row) for row in rows[:EXPLAINED].tolist()])
        assert np.abs(contributions - parts).max() <= 1e-9
        assert np.abs(contributions.sum(axis=1) - expected[:EXPLAINED]).max() <= 1e-9
