"""Backtest of a policy or model on past decisions: approvals, expected loss, and swap sets.

Every archived record is assessed again with the candidate. Both sides are measured by the candidate's scores. Amounts
are minor units, by currency.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from candor.decision import Decision, approved_amount
from candor.policy import Policy
from candor.underwriting import Assessment, LoadedBundle
from history.replay.as_decided import reassess

OUTCOMES: Final = ("approved", "declined", "action_required")
OTHER_FEATURES: Final = "its features are not those of the candidate"
NO_SCORE: Final = "nothing scored it"


@dataclass
class Side:
    """One policy's results: number approved, amounts lent, and expected loss."""

    approved: int = 0
    amount: Counter[str] = field(default_factory=Counter)
    expected_loss: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def take_in(self, currency: str, amount: int, pd: float, loss_given_bad: float) -> None:
        """Add one approval: it loses `loss_given_bad` of its amount with probability `pd`."""
        self.approved += 1
        self.amount[currency] += amount
        self.expected_loss[currency] += amount * pd * loss_given_bad

    def as_json(self, decisions: int) -> dict[str, Any]:
        """JSON form; the rate is of all decisions assessed, None without any."""
        return {
            "approved": self.approved,
            "approval_rate": self.approved / decisions if decisions else None,
            "amount": dict(self.amount),
            "expected_loss": {currency: round(loss) for currency, loss in self.expected_loss.items()},
        }


@dataclass
class Backtest:
    """Decisions as made and as the candidate makes them; `swaps` counts (outcome before, outcome now)."""

    loss_given_bad: float
    decisions: int = 0
    before: Side = field(default_factory=Side)
    now: Side = field(default_factory=Side)
    swaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    swapped_in: Side = field(default_factory=Side)
    swapped_out: Side = field(default_factory=Side)
    left_out: Counter[str] = field(default_factory=Counter)

    def take_in(self, decision: Decision, assessment: Assessment) -> None:
        """Add one decision and the candidate's assessment. One without a score is left out."""
        if assessment.score is None:
            self.left_out[NO_SCORE] += 1
            return
        self.decisions += 1
        self.swaps[decision.outcome, assessment.outcome] += 1
        currency, loss = decision.request.currency, self.loss_given_bad
        was, now = approved_amount(decision), assessment.terms.amount if assessment.terms else 0
        if decision.outcome == "approved":
            self.before.take_in(currency, was, assessment.score, loss)
            if assessment.outcome != "approved":
                self.swapped_out.take_in(currency, was, assessment.score, loss)
        if assessment.outcome == "approved":
            self.now.take_in(currency, now, assessment.score, loss)
            if decision.outcome != "approved":
                self.swapped_in.take_in(currency, now, assessment.score, loss)

    def as_json(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "decisions": self.decisions,
            "left_out": dict(self.left_out),
            "loss_given_bad": self.loss_given_bad,
            "before": self.before.as_json(self.decisions),
            "now": self.now.as_json(self.decisions),
            "swap_set": {
                "counts": {was: {now: self.swaps[was, now] for now in OUTCOMES} for was in OUTCOMES},
                "in": self.swapped_in.as_json(self.decisions),
                "out": self.swapped_out.as_json(self.decisions),
            },
        }


def backtest(
    decisions: Iterable[Decision],
    model_of: Callable[[Decision], LoadedBundle | None],
    policy_of: Callable[[LoadedBundle], Policy],
    loss_given_bad: float,
) -> Backtest:
    """Assess past decisions with a candidate.

    `model_of` selects the model that scores a decision, `policy_of` the policy that then decides.
    """
    result = Backtest(loss_given_bad)
    for decision in decisions:
        model = model_of(decision)
        if model is None:
            result.left_out[NO_SCORE] += 1
        elif model.bundle.definition_hash != decision.definition_hash:
            result.left_out[OTHER_FEATURES] += 1
        else:
            result.take_in(decision, reassess(decision, model, policy_of(model), model.bundle.features))
    return result


def loss_in(lineage: Mapping[str, Any]) -> float | None:
    """Return the loss per unit lent of a bad loan, from the model's lineage; None if it lacks one."""
    loss = lineage.get("economics", {}).get("loss_given_bad")
    return float(loss) if isinstance(loss, (int, float)) else None
