"""Importance of features: gain in training, and mean absolute contribution to the score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import lightgbm
import numpy as np

from candor.model.bundle import Bundle
from training.dataset.split import Floats
from training.fit.recipe import GAIN, gains

MOST: Final = 1_000
"""Most rows whose contributions are computed, evenly spread over time: TreeSHAP is expensive."""


def importance(bundle: Bundle, values: Floats, features: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of feature, `gain` and `contribution`, the largest mean contribution first.

    `gain` is the feature's share of the loss that the served model's splits removed in training; None for a model that
    an earlier release trained, whose text has no gains. `contribution` is the mean of |TreeSHAP contribution| (log odds)
    over at most `MOST` of the rows of `values`. Source: S. Lundberg and S. Lee, A unified approach to interpreting model
    predictions, 2017.
    """
    rows = values[np.linspace(0, len(values) - 1, min(len(values), MOST)).astype(np.int64)]
    model = lightgbm.Booster(model_str=bundle.model)
    parts = np.asarray(model.predict(rows, pred_contrib=True, num_threads=1))[:, :-1]
    contribution = np.abs(parts).mean(axis=0).tolist()
    removed = gains(bundle.model) if bundle.lineage.get("importance") == GAIN else None
    total = sum(removed.values()) if removed else 0
    table = [
        {
            "feature": name,
            "gain": None if removed is None else removed.get(name, 0) / total if total else 0.0,
            "contribution": mean,
        }
        for name, mean in zip(features, contribution, strict=True)
    ]
    return sorted(table, key=lambda row: (-row["contribution"], row["feature"]))
