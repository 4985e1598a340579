"""Shadows: what other bundles would have said of a decision that was made. They decide nothing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from candor.decision import Decision
from candor.underwriting import Judge, judge


class Line(msgspec.Struct, frozen=True):
    """One shadow's word on one decision. `outcome` is by the shadow's own policy."""

    id: str
    bundle: str
    score: float | None
    outcome: str


def shadow_lines(decision: Decision, shadows: Iterable[Judge]) -> list[bytes]:
    """One line for each shadow, of the vector in the record.

    A shadow of other definitions is passed over: the record does not hold its features.
    """
    return [
        msgspec.json.encode(_line(decision, shadow))
        for shadow in shadows
        if shadow.bundle.definition_hash == decision.definition_hash
    ]


def _line(decision: Decision, shadow: Judge) -> Line:
    features = shadow.bundle.features
    assessment = judge(shadow, shadow.policy, decision.request, features, decision.vector, unseen=decision.unseen)
    return Line(decision.id, shadow.sha, assessment.score, assessment.outcome)
