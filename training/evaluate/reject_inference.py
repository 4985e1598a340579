"""Reject inference: the bad rate of all applicants, declined ones included, by several methods, none of them exact."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from training.dataset.split import Floats

Labels = NDArray[np.int8]

UPLIFT: Final = 1.25
"""Parcelling: assumed bad rate of declined applicants over that of approved ones with the same score."""
_BANDS: Final = 10


def reject_inference(
    bad: Labels, approved: Floats, declined: Floats, cutoff: float, propensity: Floats | None = None
) -> dict[str, Any]:
    """Bad rate of all applicants by each method, and the spread between them, as shares; inputs are PDs.

    `propensity`: the logged probability that each approved applicant was approved; estimated from the PD where none was
    logged. Sources: Siddiqi 2017, ch. 8; MathWorks Risk Management Toolbox, reject inference for credit scorecards.
    """
    rates = {
        "hard_cutoff": hard_cutoff(bad, declined, cutoff),
        "parcelling": parcelling(bad, approved, declined),
        "fuzzy_augmentation": fuzzy_augmentation(bad, declined),
        "inverse_propensity": inverse_propensity(
            bad, estimated_propensity(approved, declined) if propensity is None else propensity
        ),
    }
    return {**rates, "approved_only": float(bad.mean()), "spread": max(rates.values()) - min(rates.values())}


def hard_cutoff(bad: Labels, declined: Floats, cutoff: float) -> float:
    """Bad rate if every declined applicant above the cut-off counts as bad, and every other as good."""
    return float((bad.sum() + (declined > cutoff).sum()) / (len(bad) + len(declined)))


def fuzzy_augmentation(bad: Labels, declined: Floats) -> float:
    """Bad rate if every declined applicant counts twice: as bad with weight PD, as good with weight 1 − PD."""
    return float((bad.sum() + declined.sum()) / (len(bad) + len(declined)))


def parcelling(bad: Labels, approved: Floats, declined: Floats, uplift: float = UPLIFT) -> float:
    """Bad rate if the declined of a PD band turn bad `uplift` times as often as its approved ones."""
    # Edges are PDs of approved applicants below the highest: no band is empty of them.
    edges = np.unique(np.quantile(approved, np.linspace(0, 1, _BANDS + 1)[1:-1], method="inverted_cdf"))
    edges = edges[edges < np.max(approved)]
    band, declined_band = np.searchsorted(edges, approved), np.searchsorted(edges, declined)
    rates = np.array([bad[band == number].mean() for number in range(len(edges) + 1)])
    expected = np.minimum(rates * uplift, 1.0)[declined_band].sum()
    return float((bad.sum() + expected) / (len(bad) + len(declined)))


def inverse_propensity(bad: Labels, propensity: Floats) -> float:
    """Bad rate of the approved, each weighted by 1 / propensity (Hájek's estimator)."""
    weight = 1.0 / propensity
    return float((weight * bad).sum() / weight.sum())


def estimated_propensity(approved: Floats, declined: Floats) -> Floats:
    """Probability of approval given the log odds of the PD, at least 1 %, so that no single applicant dominates."""
    pd = np.clip(np.concatenate([approved, declined]), 1e-9, 1 - 1e-9)
    odds = np.log(pd / (1.0 - pd)).reshape(-1, 1)
    was = np.repeat([1, 0], [len(approved), len(declined)])
    fitted = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1_000).fit(odds, was)
    return np.asarray(np.maximum(fitted.predict_proba(odds[: len(approved)])[:, 1], 0.01))
