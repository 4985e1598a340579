"""As-decided replay: score, outcome, reasons and terms recomputed from a decision's record and its bundle alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from candor.decision import Decision
from candor.policy import Policy
from candor.underwriting import Assessment, LoadedBundle, assess
from history.replay.as_served import Difference

COMPARED: Final = ("score", "cutoff", "outcome", "component", "rules", "reasons", "terms", "degraded")


def reassess(
    decision: Decision, model: LoadedBundle | None, policy: Policy, features: Sequence[str]
) -> Assessment:
    """Assess the facts in the record with `model` and `policy`. `features` name the record's values."""
    return assess(model, policy, decision.request, features, decision.vector, unseen=decision.unseen)


def compared(decision: Decision, assessment: Assessment, policy_hash: str) -> list[Difference]:
    """Return every part of a decision as decided and as assessed now; numbers with all digits."""
    pairs = [(name, getattr(decision, name), getattr(assessment, name)) for name in COMPARED]
    return [
        Difference("policy", decision.policy, policy_hash),
        *(Difference(name, _text(was), _text(now)) for name, was, now in pairs),
    ]


def differing(rows: Sequence[Difference]) -> list[Difference]:
    """Return the differences only."""
    return [row for row in rows if row.served != row.replayed]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
