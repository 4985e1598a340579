"""Checks of the serving engine: bit parity of its scores with LightGBM's, and its time per row."""

from __future__ import annotations

import time
from typing import Final

import lightgbm
import numpy as np

from candor.model.lightgbm import Booster
from training.dataset.split import Floats

MOST: Final = 2_000


def parity(model: str, values: Floats) -> dict[str, int]:
    """Number of rows on which the serving engine and `lightgbm.Booster` differ by any bit."""
    expected = lightgbm.Booster(model_str=model).predict(values, raw_score=True, num_threads=1)
    with Booster(model) as engine:
        actual = np.array([engine.raw(row) for row in values.tolist()])
    return {"rows": len(actual), "mismatches": int((actual != np.asarray(expected)).sum())}


def latency(model: str, values: Floats) -> dict[str, float]:
    """Time to score one row on this machine, in microseconds: median and 99th percentile over at most `MOST` rows."""
    rows = values[:MOST].tolist()
    with Booster(model) as engine:
        spent = [_timed(engine, row) for row in rows]
    p50, p99 = np.percentile(spent, [50, 99]) / 1_000
    return {"score_us_p50": float(p50), "score_us_p99": float(p99)}


def _timed(engine: Booster, row: list[float]) -> int:
    started = time.perf_counter_ns()
    engine.raw(row)
    return time.perf_counter_ns() - started
