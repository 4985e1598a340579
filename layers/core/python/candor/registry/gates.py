"""Gates before a bundle may serve: its evaluation against thresholds, with a reason for each failure.

A gate passes only on evidence: a missing or non-finite figure fails it. A part of the evaluation that does not apply
(no comparable champion, no groups) is null as a whole and is skipped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

from candor.errors import BundleRefused

FORMAT: Final = 1
"""Format of evaluation.json."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Thresholds of the gates. AUC and AIR are shares, latencies µs; the defaults are customary values.

    `max_auc_loss`: largest loss of AUC against the champion at the lower confidence bound.
    `min_approval_rate` and `min_profit_per_unit` (of the amount lent, after losses) are at the bundle's cut-off.
    PSI above 0.25 calls for action, AIR below 0.8 is the four-fifths rule (29 CFR 1607.4 D).
    """

    min_auc: float = 0.65
    max_auc_loss: float = 0.03
    min_slope: float = 0.9
    max_slope: float = 1.1
    max_ece: float = 0.05
    max_psi: float = 0.25
    min_air: float = 0.8
    max_score_us_p99: float = 5_000.0
    max_without_reasons: float = 0.0
    min_reason_stability: float = 0.5
    min_approval_rate: float = 0.2
    min_profit_per_unit: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Thresholds:
        """Parse a JSON object of all thresholds. ValueError if one is missing, unknown or not a number."""
        members = json.loads(text)
        names = {field.name for field in fields(cls)}
        if not isinstance(members, dict) or set(members) != names:
            raise ValueError(f"thresholds: give exactly {', '.join(sorted(names))}")
        return cls(**{name: float(value) for name, value in members.items()})


class Failure(NamedTuple):
    """A failed gate and its reason."""

    gate: str
    reason: str


class _Unproven(Exception):
    """A figure required by a gate is missing."""


Gate = Callable[["EvaluationPart", Thresholds], Iterator[str]]


class EvaluationPart:
    """A level of an evaluation; `number` raises if the figure is missing."""

    def __init__(self, members: Any, path: str = "") -> None:
        self._members, self._path = members if isinstance(members, Mapping) else {}, path

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def __getitem__(self, name: str) -> EvaluationPart:
        return EvaluationPart(self._members.get(name), f"{self._path}{name}.")

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._members.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _Unproven(f"the evaluation has no {self._path}{name}: evaluate again")
        return float(value)

    def parts(self, name: str) -> list[EvaluationPart]:
        """Members of a list; empty if there is none."""
        members = self._members.get(name)
        return (
            [EvaluationPart(member, f"{self._path}{name}.") for member in members]
            if isinstance(members, list)
            else []
        )

    def plain(self, name: str) -> Any:
        """The value as it is, or None."""
        return self._members.get(name)


def failures(evaluation: Mapping[str, Any], thresholds: Thresholds) -> list[Failure]:
    """Failed gates in order; if empty, the bundle may serve."""
    whole = EvaluationPart(evaluation)
    return [
        Failure(name, reason) for name, gate in GATES.items() for reason in _reasons(gate, whole, thresholds)
    ]


def compared_with_champion(evaluation: Mapping[str, Any]) -> bool:
    """True if there is no champion, or the evaluation compares with it on rows unseen by both.

    No comparison is possible if the champion was trained on all labels, or needs removed features: then a person
    decides.
    """
    return evaluation.get("champion") is None or evaluation.get("comparison") is not None


def require_evaluation_of(evaluation: Any, bundle: str) -> Mapping[str, Any]:
    """The evaluation, if it is of this bundle and format; else BundleRefused."""
    if not isinstance(evaluation, Mapping) or evaluation.get("format") != FORMAT:
        raise BundleRefused(f"evaluation.json is not of format {FORMAT}: evaluate again with this release")
    if evaluation.get("bundle") != bundle:
        raise BundleRefused(f"evaluation.json is not about bundle {bundle[:12]}: evaluate again")
    return evaluation


def _reasons(gate: Gate, whole: EvaluationPart, thresholds: Thresholds) -> list[str]:
    try:
        return list(gate(whole, thresholds))
    except _Unproven as missing:
        return [str(missing)]


def _quality(whole: EvaluationPart, thresholds: Thresholds) -> Iterator[str]:
    """Checks the AUC's confidence interval, and that of the difference to the champion."""
    low = whole["discrimination"].number("auc_low")
    if low <= thresholds.min_auc:
        yield f"the AUC's confidence interval begins at {low:.4f}, it must lie above {thresholds.min_auc:g}"
    if "comparison" in whole:
        comparison = whole["comparison"]
        low, high = comparison.number("low"), comparison.number("high")
        if high < 0.0:
            yield f"worse than the champion with confidence: its AUC differs by {low:+.4f} to {high:+.4f}"
        elif low < -thresholds.max_auc_loss:
            yield (
                f"it may be worse than the champion by {-low:.4f} of AUC (confidence interval "
                f"{low:+.4f} to {high:+.4f}), {thresholds.max_auc_loss:g} may be lost at most"
            )


def _calibration(whole: EvaluationPart, thresholds: Thresholds) -> Iterator[str]:
    slope, ece = (whole["calibration"].number(name) for name in ("slope", "ece"))
    if not thresholds.min_slope <= slope <= thresholds.max_slope:
        yield f"the calibration's slope is {slope:.3f}, it must be {thresholds.min_slope:g} to {thresholds.max_slope:g}"
    if ece > thresholds.max_ece:
        yield f"the expected calibration error is {ece:.4f}, at most {thresholds.max_ece:g} is allowed"


def _stability(whole: EvaluationPart, thresholds: Thresholds) -> Iterator[str]:
    psi = whole["stability"].number("psi")
    if psi > thresholds.max_psi:
        yield f"the score's PSI is {psi:.3f}, at most {thresholds.max_psi:g} is allowed: the population has moved"


def _fairness(whole: EvaluationPart, thresholds: Thresholds) -> Iterator[str]:
    """Checks each group's adverse impact ratio; without groups there is nothing to compare."""
    for group in whole["fairness"].parts("groups"):
        air, name = group.number("air"), group.plain("group")
        if air < thresholds.min_air:
            yield (
                f"the adverse impact ratio of group {name!s} against {group.plain('reference')!s} is {air:.3f}, "
                f"it must be {thresholds.min_air:g} or more"
            )


def _latency(whole: EvaluationPart, thresholds: Thresholds) -> Iterator[str]:
    slow = whole["latency"].number("score_us_p99")
    if slow > thresholds.max_score_us_p99:
        yield f"1 of 100 scores takes {slow:.0f} µs or more, at most {thresholds.max_score_us_p99:g} is allowed"


def _parity(whole: EvaluationPart, _: Thresholds) -> Iterator[str]:
    rows, mismatches = (whole["parity"].number(name) for name in ("rows", "mismatches"))
    if rows < 1:
        yield "no score of the engine was compared with LightGBM's own: evaluate again"
    if mismatches:
        yield f"the engine scores {mismatches:.0f} of {rows:.0f} rows otherwise than LightGBM itself"


def _reason_codes(whole: EvaluationPart, thresholds: Thresholds) -> Iterator[str]:
    without, stability = (whole["reasons"].number(name) for name in ("without", "stability"))
    if without > thresholds.max_without_reasons:
        yield f"{without:.2%} of the declined have no reason, at most {thresholds.max_without_reasons:.2%} is allowed"
    if stability < thresholds.min_reason_stability:
        yield (
            f"reasons agree between seeds by {stability:.2f} (mean Jaccard), "
            f"it must be {thresholds.min_reason_stability:g} or more: they depend on the seed of the training"
        )


def _leakage(whole: EvaluationPart, _: Thresholds) -> Iterator[str]:
    leakage = whole["leakage"]
    if leakage.plain("suspected") is False:
        return
    suspicions = [
        f"{finding.plain('feature') or finding.plain('rows')}: {finding.plain('what')}"
        for finding in leakage.parts("findings")
    ]
    yield f"the evaluation suspects a leak ({'; '.join(suspicions[:3]) or 'without a finding'})"


def _approval(whole: EvaluationPart, thresholds: Thresholds) -> Iterator[str]:
    rate = whole["profit"].number("approval_rate")
    if rate < thresholds.min_approval_rate:
        yield (
            f"{rate:.1%} of the evaluated checkouts would be approved, "
            f"it must be {thresholds.min_approval_rate:.1%} or more"
        )


def _profit(whole: EvaluationPart, thresholds: Thresholds) -> Iterator[str]:
    profit = whole["profit"].number("profit_per_unit")
    if profit < thresholds.min_profit_per_unit:
        yield (
            f"the expected profit is {profit:+.4f} per unit lent at its cut-off, "
            f"it must be {thresholds.min_profit_per_unit:+.4f} or more"
        )


GATES: Final[Mapping[str, Gate]] = {
    "quality": _quality,
    "calibration": _calibration,
    "stability": _stability,
    "fairness": _fairness,
    "latency": _latency,
    "parity": _parity,
    "reasons": _reason_codes,
    "approval": _approval,
    "profit": _profit,
    "leakage": _leakage,
}
"""Gates by name, in reporting order."""
