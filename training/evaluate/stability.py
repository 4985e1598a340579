"""Stability of the population: PSI of the score, CSI of each feature, and missing shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.dataset.split import Floats
from training.metrics.drift import Bins, missing_rate, psi


def stability(
    early: Floats, late: Floats, early_scores: Floats, late_scores: Floats, features: Sequence[str]
) -> dict[str, Any]:
    """Compare `late` rows with `early` ones, in bins frozen on the early ones.

    Below 0.10 is stable, above 0.25 calls for action.
    """
    return {
        "psi": _psi(early_scores, late_scores),
        "csi": {name: _psi(early[:, index], late[:, index]) for index, name in enumerate(features)},
        "missing": {
            name: [missing_rate(part[:, index]) for part in (early, late)]
            for index, name in enumerate(features)
        },
    }


def _psi(early: Floats, late: Floats) -> float:
    bins = Bins.frozen(early)
    return psi(bins.counts(early), bins.counts(late))
