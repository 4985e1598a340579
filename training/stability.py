"""Whether the later population is the one that was trained on: PSI of the score, CSI of each feature, missing shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.learn import Floats


def stability(
    early: Floats, late: Floats, early_scores: Floats, late_scores: Floats, features: Sequence[str]
) -> dict[str, Any]:
    """`late` rows against `early` ones, with bins frozen on the early ones. Below 0.10 is stable, above 0.25 calls for action."""
    return {
        "psi": index(early_scores, late_scores),
        "csi": {name: index(early[:, place], late[:, place]) for place, name in enumerate(features)},
        "missing": {
            name: [float(np.isnan(part[:, place]).mean()) for part in (early, late)]
            for place, name in enumerate(features)
        },
    }


def index(expected: Floats, found: Floats, bins: int = 10) -> float:
    """Population stability index: Σ (f − e) · ln(f / e) over `bins` of equal number of `expected`, and missing as one more.

    An empty bin counts as half a row, so that the index stays finite.
    """
    edges = np.unique(np.quantile(expected[~np.isnan(expected)], np.linspace(0, 1, bins + 1)[1:-1]))
    shares = [_shares(part, edges) for part in (expected, found)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _shares(values: Floats, edges: Floats) -> Floats:
    present = values[~np.isnan(values)]
    counts = np.bincount(np.searchsorted(edges, present, side="left"), minlength=len(edges) + 1)
    filled = np.maximum(np.append(counts, len(values) - len(present)), 0.5)
    return np.asarray(filled / filled.sum())
