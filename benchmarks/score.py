"""One score of one row: our binding of LightGBM's C API against the Python package, which must give the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lightgbm
import numpy as np

from benchmarks.rounds import Row, interleaved
from candor.model.engine import Booster

FEATURES = 120
ROWS = 2_000
SIZES = ((100, 31), (500, 63))
"""(trees, leaves): a small model and the largest that the budgets speak of."""


def measure() -> Iterator[Row]:
    """Both ways for each model size. Raises AssertionError if a single bit differs."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(ROWS, FEATURES))
    rows[random.random(rows.shape) < 0.1] = np.nan
    for trees, leaves in SIZES:
        reference = _train(rows, trees, leaves)
        ours = Booster(reference.model_to_string())
        values = rows.tolist()
        expected = np.asarray(reference.predict(rows, raw_score=True, num_threads=1)).tolist()
        assert [ours.raw(row) for row in values] == expected, "the two ways differ"
        yield from _compare(f"{trees} trees x {leaves} leaves", ours, reference, values, rows)


def _compare(
    size: str, ours: Booster, reference: lightgbm.Booster, values: list[list[float]], rows: np.ndarray
) -> Iterator[Row]:
    package, binding = f"lightgbm.Booster.predict, {size}", f"candor.model.Booster.raw, {size}"
    found = interleaved({package: _by_package(reference, rows), binding: _by_binding(ours, values)})
    yield Row("score", package, found[package])
    yield Row("score", binding, found[binding], package, found[binding] / found[package])


def _by_binding(booster: Booster, values: list[list[float]]) -> Callable[[], int]:
    def call() -> int:
        for row in values:
            booster.raw(row)
        return len(values)

    return call


def _by_package(booster: lightgbm.Booster, rows: np.ndarray) -> Callable[[], int]:
    single = [rows[place : place + 1] for place in range(len(rows))]

    def call() -> int:
        for row in single:
            booster.predict(row, raw_score=True, num_threads=1)
        return len(single)

    return call


def _train(rows: np.ndarray, trees: int, leaves: int) -> lightgbm.Booster:
    random = np.random.default_rng(11)
    risk = np.nan_to_num(rows[:, :10]).sum(axis=1) + random.normal(size=len(rows))
    parameters = {
        "objective": "binary",
        "num_leaves": leaves,
        "min_data_in_leaf": 5,
        "num_threads": 2,
        "verbosity": -1,
    }
    return lightgbm.train(parameters, lightgbm.Dataset(rows, risk > 1.0), num_boost_round=trees)
