"""Judging one application: score, policy, reasons. The same steps when it is decided, replayed, shadowed or backtested."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from candor.contracts import Checkout
from candor.errors import BundleRefused, DefinitionError, PolicyError
from candor.features.vector import FeatureVector
from candor.model.bundle import Bundle
from candor.model.engine import Booster, ModelRefused
from candor.policy import Facts, Policy, Verdict
from candor.reasons import MAX_REASONS, Catalogue


class Judge:
    """A bundle made ready to judge. Raises `BundleRefused` if any part of it could not."""

    def __init__(self, sha: str, bundle: Bundle) -> None:
        self.sha = sha
        self.bundle = bundle
        try:
            self.booster = Booster(bundle.model)
            self.policy = Policy(bundle.policy)
            self.catalogue = Catalogue(bundle.reasons, bundle.features)
        except (ModelRefused, PolicyError, DefinitionError) as error:
            raise BundleRefused(f"bundle {sha[:12]}: {error}") from error

    def score(self, values: Sequence[float]) -> float | None:
        """Probability that the checkout turns bad; None if the model gives no finite number.

        A table sees such a number as null, and no row of a null score fires: it would pass for a good one.
        """
        raw = self.booster.raw(values)
        return self.bundle.score(raw) if isfinite(raw) else None

    def reasons(self, values: Sequence[float]) -> list[str]:
        """Codes of the model's principal reasons against this applicant."""
        contributions = self.booster.contributions(values)[:-1]
        return self.catalogue.model_reasons(contributions, self.bundle.reason_reference)


class Judgement(NamedTuple):
    """What follows from one application's facts; a decision is this and where it was taken."""

    score: float | None
    cutoff: float | None
    verdict: Verdict
    reasons: list[str]
    degraded: bool


def judge(
    model: Judge | None,
    policy: Policy,
    checkout: Checkout,
    features: Sequence[str],
    vector: FeatureVector,
    *,
    unseen: bool = False,
) -> Judgement:
    """Score by `model` (None: there is none), and what `policy` makes of it. `features` name the vector's values.

    `unseen`: what a burst was granted before could not be read, so that nothing is granted.
    """
    score = model.score(vector.values) if model else None
    facts = Facts(
        score=score,
        cutoff=model.bundle.cutoff if model else None,
        amount=checkout.total,
        currency=checkout.currency,
        degraded=vector.degraded or score is None,
        features=dict(zip(features, vector.values, strict=True)),
        states=vector.states,
    )
    verdict = _verdict(policy, facts)
    if unseen:
        verdict = _withheld(verdict)
    return Judgement(score, facts.cutoff, verdict, _reasons(verdict, model, vector), facts.degraded)


def _verdict(policy: Policy, facts: Facts) -> Verdict:
    """The policy's verdict; a person looks where the table itself fails on these facts."""
    try:
        return policy.decide(facts)
    except PolicyError:
        return Verdict("action_required", None, ["policy_failed"], [])


def _withheld(verdict: Verdict) -> Verdict:
    """A person looks at what would have been approved."""
    if verdict.outcome != "approved":
        return verdict
    return Verdict("action_required", "policy", [*verdict.rules, "synchronous_unavailable"], [])


def _reasons(verdict: Verdict, model: Judge | None, vector: FeatureVector) -> list[str]:
    """Reason codes of a decline, from the component that failed; none otherwise."""
    if verdict.component == "model" and model is not None:
        return model.reasons(vector.values)
    return verdict.reasons[:MAX_REASONS]
