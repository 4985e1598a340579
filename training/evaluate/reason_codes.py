"""Reason codes of declined applicants: their frequency, and their stability across training seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import lightgbm
import numpy as np
from msgspec.structs import replace

from candor.errors import BundleRefused
from candor.model.bundle import Bundle
from candor.principal_reasons import Attribution, PrincipalReasons
from candor.reasons import Catalogue
from training.dataset.split import Floats
from training.fit.calibrate import near_cutoff

MOST: Final = 500
"""Most declined applicants that are explained, evenly spread over time: TreeSHAP is expensive."""

_NOBODY: Final[dict[str, Any]] = {
    "declined": 0,
    "frequency": {},
    "top1": {},
    "without": None,
    "unstated": None,
    "stability": None,
}


def reasons(models: Mapping[int, str], values: Floats, pd: Floats, bundle: Bundle) -> dict[str, Any]:
    """Frequencies of reasons among the declined rows of `values`; the first of `models` serves, and its PDs are `pd`.

    `stability` is the mean Jaccard index of the reasons by the serving seed's model and by each other seed's, each
    relative to its contributions for the same applicants near the cut-off; None with one seed. `without` is the share
    of applicants for whom no true reason raised the risk above the reference, and `unstated` the mean share of the
    adverse effect for which the catalogue has no true reason. All are None if nobody is declined. Raises BundleRefused
    for a bundle without a basis of reasons.
    """
    declined = np.flatnonzero(pd > bundle.cutoff)
    if not len(declined):
        return _NOBODY
    explained = declined[np.linspace(0, len(declined) - 1, min(len(declined), MOST)).astype(np.int64)]
    near = near_cutoff(pd, bundle.cutoff)
    by_model = [_attributions(text, values[explained], values[near], bundle) for text in models.values()]
    served, *others = [[attribution.codes() for attribution in of_model] for of_model in by_model]
    overlaps = [_overlap(served, other) for other in others]
    return {
        "declined": len(declined),
        "frequency": _shares([code for codes in served for code in codes], len(explained)),
        "top1": _shares([codes[0] for codes in served], len(explained)),
        "without": float(np.mean([not attribution.raised() for attribution in by_model[0]])),
        "unstated": float(np.mean([attribution.unstated_share for attribution in by_model[0]])),
        "stability": float(np.mean(overlaps)) if overlaps else None,
    }


def _attributions(text: str, explained: Floats, near: Floats, bundle: Bundle) -> list[Attribution]:
    """Each applicant's contributions by reason. Rows of training have no view states: all were readable."""
    if bundle.reason_basis is None:
        raise BundleRefused("the bundle has no basis of reasons: train again")
    model = lightgbm.Booster(model_str=text)
    reference = tuple(np.mean(_contributions(model, near), axis=0)[:-1].tolist())
    basis = replace(bundle.reason_basis, reference=reference)
    chooser = PrincipalReasons(Catalogue(bundle.reasons, bundle.features), basis, bundle.calibration.slope)
    rows = zip(_contributions(model, explained), explained.tolist(), strict=True)
    return [chooser.attribution(parts[:-1], values, {}) for parts, values in rows]


def _contributions(model: lightgbm.Booster, values: Floats) -> list[list[float]]:
    return np.asarray(model.predict(values, pred_contrib=True, num_threads=1)).tolist()  # type: ignore[no-any-return]


def _overlap(some: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> float:
    pairs = [(set(a), set(b)) for a, b in zip(some, others, strict=True)]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs]))


def _shares(codes: Sequence[str], n: int) -> dict[str, float]:
    return {code: count / n for code, count in sorted(Counter(codes).items())}
