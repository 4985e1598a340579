"""Shadow scoring: other bundles score recorded decisions, without effect on them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from candor.decision import Decision
from candor.underwriting import LoadedBundle, assess


class ShadowScore(msgspec.Struct, frozen=True):
    """Score and outcome of one shadow for one decision. `outcome` is by the shadow's own policy."""

    id: str
    bundle: str
    score: float | None
    outcome: str


def shadow_lines(decision: Decision, shadows: Iterable[LoadedBundle]) -> list[bytes]:
    """One JSON line per shadow, from the recorded vector.

    Shadows of other definitions are skipped: the record does not hold their features.
    """
    return [
        msgspec.json.encode(_line(decision, shadow))
        for shadow in shadows
        if shadow.bundle.definition_hash == decision.definition_hash
    ]


def _line(decision: Decision, shadow: LoadedBundle) -> ShadowScore:
    features = shadow.bundle.features
    assessment = assess(
        shadow, shadow.policy, decision.request, features, decision.vector, unseen=decision.unseen
    )
    return ShadowScore(decision.id, shadow.sha, assessment.score, assessment.outcome)
