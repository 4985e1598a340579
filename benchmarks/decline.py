"""Decline path: cost of the reasons on top of the score. Approvals do not pay it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import lightgbm
import numpy as np

from benchmarks.request.world import world
from benchmarks.rounds import Measurement, interleaved
from candor.champion import Champion
from lender import DEFINITIONS

ROWS = 20
BUDGET = 1.05


def measure() -> Iterator[Measurement]:
    """Score, LightGBM's own contributions, and ours with their sum by factor and the choice of reasons."""
    with world() as services:
        champion = Champion(services.bundle.sha, services.bundle, DEFINITIONS)
        reference = lightgbm.Booster(model_str=services.bundle.model)
    width = len(DEFINITIONS.features)
    rows = np.random.default_rng(3).normal(size=(ROWS, width))
    states = dict.fromkeys((view.name for view in DEFINITIONS.views), "present")
    package, ours = "Booster.predict(pred_contrib)", "exact contributions by the binding"
    calls: dict[str, Callable[[], int]] = {
        "score": partial(_each, champion.score, rows.tolist()),
        package: partial(_package, reference, rows),
        ours: partial(_each, champion.engine.contributions, rows.tolist()),
        "reasons: contributions, factors, choice": partial(
            _each, partial(champion.reasons, states=states), rows.tolist()
        ),
    }
    spent = interleaved(calls, rounds=7)
    for name, value in spent.items():
        limit = BUDGET if name == ours else None
        yield Measurement(
            "decline", name, value, package, value / spent[package], limit, limits="ratio at most"
        )


def _each(call: Callable[[list[float]], object], rows: list[list[float]]) -> int:
    for row in rows:
        call(row)
    return len(rows)


def _package(booster: lightgbm.Booster, rows: np.ndarray) -> int:
    for place in range(len(rows)):
        booster.predict(rows[place : place + 1], pred_contrib=True, num_threads=1)
    return len(rows)
