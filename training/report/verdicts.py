"""Verdicts on the main figures of an evaluation, by the thresholds of the gates of a production stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from candor.registry.gates import Thresholds
from training.metrics.drift import ACT, WATCH

GOOD, TO_WATCH, TO_ACT_ON = "good", "watch", "act"

_CUSTOMARY: Final = Thresholds()


class Verdict(NamedTuple):
    """Verdict on a figure: `state` is good, watch or act; `word` says it with its threshold."""

    state: str
    word: str


def verdicts(evaluation: Mapping[str, Any], thresholds: Thresholds = _CUSTOMARY) -> dict[str, Verdict]:
    """Verdicts by figure: auc, calibration, approvals, psi, leakage. A stage's own gates may ask for less or more."""
    return {
        "auc": _auc(evaluation["discrimination"], thresholds),
        "calibration": _calibration(evaluation["calibration"], thresholds),
        "approvals": _approvals(evaluation["profit"], thresholds),
        "psi": psi_verdict(evaluation["stability"]["psi"]),
        "leakage": Verdict(TO_ACT_ON, "act: look at the findings")
        if evaluation["leakage"]["suspected"]
        else Verdict(GOOD, "good"),
    }


def psi_verdict(psi: float) -> Verdict:
    """Verdict on a PSI or CSI: stable below 0.10, to act on from 0.25 (Siddiqi 2006)."""
    if psi < WATCH:
        return Verdict(GOOD, f"good: below {WATCH:.2f}")
    return (
        Verdict(TO_ACT_ON, f"act: {ACT} or more")
        if psi >= ACT
        else Verdict(TO_WATCH, f"watch: {WATCH:.2f} or more")
    )


def _auc(figures: Mapping[str, Any], thresholds: Thresholds) -> Verdict:
    least = thresholds.min_auc
    if figures["auc_low"] > least:
        return Verdict(GOOD, f"good: interval above {least:g}")
    if figures["auc"] > least:
        return Verdict(TO_WATCH, f"watch: interval reaches {least:g}")
    return Verdict(TO_ACT_ON, f"act: not above {least:g}")


def _calibration(figures: Mapping[str, Any], thresholds: Thresholds) -> Verdict:
    low, high, most = thresholds.min_slope, thresholds.max_slope, thresholds.max_ece
    if not low <= figures["slope"] <= high:
        return Verdict(TO_ACT_ON, f"act: outside {low:g} to {high:g}")
    if figures["ece"] > most:
        return Verdict(TO_ACT_ON, f"act: error above {100 * most:.0f} %")
    return Verdict(GOOD, f"good: {low:g} to {high:g}")


def _approvals(figures: Mapping[str, Any], thresholds: Thresholds) -> Verdict:
    least = thresholds.min_approval_rate
    if figures["approval_rate"] < least:
        return Verdict(TO_ACT_ON, f"act: below {100 * least:.0f} %")
    if figures["profit_per_unit"] < thresholds.min_profit_per_unit:
        return Verdict(TO_ACT_ON, "act: lends at a loss")
    return Verdict(GOOD, "good: at a profit")
