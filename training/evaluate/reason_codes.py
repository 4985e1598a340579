"""Reason codes of declined applicants: their frequency, and their stability across training seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import lightgbm
import numpy as np

from candor.reasons import Catalogue
from training.dataset.split import Floats
from training.fit.calibrate import near_cutoff

MOST: Final = 500
"""Most declined applicants that are explained, evenly spread over time: TreeSHAP is expensive."""


def reasons(
    models: Mapping[int, str], values: Floats, pd: Floats, cutoff: float, catalogue: Catalogue
) -> dict[str, Any]:
    """Frequencies of reasons among the declined rows of `values`; the first of `models` serves, and its PDs are `pd`.

    `stability` is the mean Jaccard index of the reasons by the serving seed's model and by each other seed's, each
    relative to its contributions for the same applicants near the cut-off; None with one seed. `without` is the share
    of applicants for whom no factor raised the risk above the reference. Both are None if nobody is declined.
    """
    declined = np.flatnonzero(pd > cutoff)
    if not len(declined):
        return {"declined": 0, "frequency": {}, "top1": {}, "without": None, "stability": None}
    explained = declined[np.linspace(0, len(declined) - 1, min(len(declined), MOST)).astype(np.int64)]
    near = near_cutoff(pd, cutoff)
    by_model = [_explanations(text, values[explained], values[near], catalogue) for text in models.values()]
    served = by_model[0]
    overlaps = [_overlap(served, other) for other in by_model[1:]]
    return {
        "declined": len(declined),
        "frequency": _shares([code for codes, _ in served for code in codes], len(explained)),
        "top1": _shares([codes[0] for codes, _ in served], len(explained)),
        "without": float(np.mean([not raised for _, raised in served])),
        "stability": float(np.mean(overlaps)) if overlaps else None,
    }


Explanation = tuple[list[str], bool]


def _explanations(text: str, explained: Floats, near: Floats, catalogue: Catalogue) -> list[Explanation]:
    """Reason codes of each applicant, and whether a factor raised the risk above the reference."""
    model = lightgbm.Booster(model_str=text)
    factors = [catalogue.by_factor(row[:-1]) for row in _contributions(model, near)]
    reference = {name: sum(applicant[name] for applicant in factors) / len(factors) for name in factors[0]}
    return [_explanation(row[:-1], reference, catalogue) for row in _contributions(model, explained)]


def _contributions(model: lightgbm.Booster, values: Floats) -> list[list[float]]:
    return np.asarray(model.predict(values, pred_contrib=True, num_threads=1)).tolist()  # type: ignore[no-any-return]


def _explanation(
    contributions: Sequence[float], reference: Mapping[str, float], catalogue: Catalogue
) -> Explanation:
    factors = catalogue.by_factor(contributions)
    raised = any(value > reference[name] for name, value in factors.items())
    return catalogue.model_reasons(contributions, reference), raised


def _overlap(some: Sequence[Explanation], others: Sequence[Explanation]) -> float:
    pairs = [(set(a), set(b)) for (a, _), (b, _) in zip(some, others, strict=True)]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs]))


def _shares(codes: Sequence[str], n: int) -> dict[str, float]:
    return {code: count / n for code, count in sorted(Counter(codes).items())}
