"""As-judged replay: score, outcome, reasons and terms of a decision again, from its record and its bundle alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from candor.decision import Decision
from candor.policy import Policy
from candor.underwriting import Judge, Judgement, judge
from history.replay.as_served import Difference

COMPARED: Final = ("score", "cutoff", "outcome", "component", "rules", "reasons", "terms", "degraded")


def reassess(decision: Decision, model: Judge | None, policy: Policy, features: Sequence[str]) -> Judgement:
    """What `model` and `policy` make of the facts that the record holds. `features` name the record's values."""
    return judge(model, policy, decision.request, features, decision.vector, unseen=decision.unseen)


def compared(decision: Decision, assessment: Judgement, policy_hash: str) -> list[Difference]:
    """Every part of a decision, as it was decided and as it is now; numbers by all their digits."""
    pairs = [(name, getattr(decision, name), getattr(assessment, name)) for name in COMPARED]
    return [
        Difference("policy", decision.policy, policy_hash),
        *(Difference(name, _text(was), _text(now)) for name, was, now in pairs),
    ]


def differing(rows: Sequence[Difference]) -> list[Difference]:
    """Those that are not the same."""
    return [row for row in rows if row.served != row.replayed]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
