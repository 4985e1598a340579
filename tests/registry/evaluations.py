"""Evaluations: one that passes every gate, and ten that are worse in one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

BUNDLE, CHAMPION = "b" * 64, "c" * 64

_SOUND: dict[str, Any] = {
    "format": 1,
    "bundle": BUNDLE,
    "champion": CHAMPION,
    "run": "r1",
    "discrimination": {
        "n": 2_000, "bads": 400, "auc": 0.71, "auc_low": 0.68, "auc_high": 0.74, "gini": 0.42, "ks": 0.31,
        "ks_at": 0.2, "average_precision": 0.4, "segments": [],
    },
    "comparison": {"auc_difference": 0.004, "low": -0.008, "high": 0.016},
    "calibration": {
        "brier": 0.14, "log_loss": 0.45, "slope": 1.02, "intercept": 0.01, "ece": 0.012, "reliability": [],
        "in_time": {"slope": 1.0, "intercept": 0.0, "ece": 0.01},
    },
    "gains": [],
    "stability": {"psi": 0.06, "csi": {"a": 0.02}, "missing": {"a": [0.0, 0.0]}},
    "profit": {"cutoff": 0.2, "approval_rate": 0.8, "bad_rate": 0.1, "profit_per_unit": 0.03, "curve": []},
    "swap_set": None,
    "vintages": [],
    "reasons": {"frequency": {"R01": 0.5}, "top1": {"R01": 0.3}, "without": 0.0, "stability": 0.8},
    "reject_inference": None,
    "fairness": {
        "groups": [{"group": "b", "reference": "a", "n": 300, "air": 0.93, "smd": 0.1}],
        "alternatives": [],
    },
    "leakage": {"suspected": False, "findings": []},
    "latency": {"score_us_p50": 30.0, "score_us_p99": 90.0},
    "parity": {"rows": 2_000, "mismatches": 0},
}  # fmt: skip


def sound(bundle: str = BUNDLE, **changes: Any) -> dict[str, Any]:
    """Passes every gate by the default thresholds; `changes` replace parts, null as None."""
    return copy.deepcopy(_SOUND) | {"bundle": bundle} | changes


def _changed(part: str, **figures: Any) -> Callable[[], dict[str, Any]]:
    return lambda: sound(**{part: {**_SOUND[part], **figures}})


WORSE: Mapping[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "quality": (
        _changed("discrimination", auc=0.66, auc_low=0.63, auc_high=0.69),
        "the AUC's confidence interval begins at 0.6300, it must lie above 0.65",
    ),
    "calibration": (
        _changed("calibration", slope=0.8),
        "the calibration's slope is 0.800, it must be 0.9 to 1.1",
    ),
    "stability": (
        _changed("stability", psi=0.31),
        "the score's PSI is 0.310, at most 0.25 is allowed: the population has moved",
    ),
    "fairness": (
        _changed("fairness", groups=[{"group": "b", "reference": "a", "n": 300, "air": 0.74, "smd": 0.4}]),
        "the adverse impact ratio of group b against a is 0.740, it must be 0.8 or more",
    ),
    "latency": (
        _changed("latency", score_us_p99=9_000.0),
        "1 of 100 scores takes 9000 µs or more, at most 5000 is allowed",
    ),
    "parity": (
        _changed("parity", mismatches=3),
        "the engine scores 3 of 2000 rows otherwise than LightGBM itself",
    ),
    "reasons": (
        _changed("reasons", without=0.015),
        "1.50% of the declined have no reason, at most 0.00% is allowed",
    ),
    "approval": (
        _changed("profit", approval_rate=0.004),
        "0.4% of the evaluated checkouts would be approved, it must be 20.0% or more",
    ),
    "profit": (
        _changed("profit", profit_per_unit=-0.0123),
        "the expected profit is -0.0123 per unit lent at its cut-off, it must be +0.0000 or more",
    ),
    "leakage": (
        _changed(
            "leakage",
            suspected=True,
            findings=[{"feature": "repaid_at", "what": "known after the moment in 40 % of the rows"}],
        ),
        "the evaluation suspects a leak (repaid_at: known after the moment in 40 % of the rows)",
    ),
}
"""The gate that must refuse it: what is worse, and the reason in words."""
