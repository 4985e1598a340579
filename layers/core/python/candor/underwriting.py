"""Judging one application: score, policy, reasons. The same steps when it is decided, replayed, shadowed or backtested."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import isfinite
from typing import NamedTuple

from msgspec.structs import replace

from candor.contracts import Checkout
from candor.errors import BundleRefused, DefinitionError, PolicyError
from candor.features.vector import FeatureVector
from candor.model.bundle import Bundle
from candor.model.engine import Booster, ModelRefused
from candor.policy import Component, Facts, Outcome, Policy, PolicyVerdict, codes, compiled
from candor.reasons import MAX_REASONS, Catalogue
from candor.terms import TermLimits, Terms, granted, is_counter_offer


class LoadedBundle:
    """A bundle made ready to judge. Raises `BundleRefused` if any part of it could not."""

    def __init__(self, sha: str, bundle: Bundle) -> None:
        self.sha = sha
        self.bundle = bundle
        try:
            self.booster = Booster(bundle.model)
            self.policy = compiled(bundle.policy)
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


class Assessment(NamedTuple):
    """What follows from one application's facts; a decision is this and where it was taken.

    `component` is who refused something: it is None for what was granted as it was asked for. `terms` are of an approval.
    """

    score: float | None
    cutoff: float | None
    outcome: Outcome
    component: Component | None
    rules: list[str]
    reasons: list[str]
    terms: Terms | None
    degraded: bool


def assess(
    model: LoadedBundle | None,
    policy: Policy,
    checkout: Checkout,
    features: Sequence[str],
    vector: FeatureVector,
    *,
    unseen: bool = False,
) -> Assessment:
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
        installments=checkout.offer.installments,
        finance_charge=checkout.offer.finance_charge,
    )
    verdict = _verdict(policy, facts)
    if unseen:
        verdict = _withheld(verdict)
    verdict, terms = _granted(verdict, checkout)
    return Assessment(
        score=score,
        cutoff=facts.cutoff,
        outcome=verdict.outcome,
        component=verdict.component,
        rules=verdict.rules,
        reasons=_reasons(verdict, model, vector),
        terms=terms,
        degraded=facts.degraded,
    )


def _verdict(policy: Policy, facts: Facts) -> PolicyVerdict:
    """The policy's verdict; a person looks where the table itself fails on these facts."""
    try:
        return policy.decide(facts)
    except PolicyError:
        return PolicyVerdict("action_required", None, ["policy_failed"], [])


def _withheld(verdict: PolicyVerdict) -> PolicyVerdict:
    """A person looks at what would have been approved."""
    if verdict.outcome != "approved":
        return verdict
    return PolicyVerdict("action_required", "policy", [*verdict.rules, "synchronous_unavailable"], [])


def _granted(verdict: PolicyVerdict, checkout: Checkout) -> tuple[PolicyVerdict, Terms | None]:
    """The terms of an approval; where they refuse something, the verdict says who does, hard rules before the score."""
    if verdict.outcome != "approved":
        return verdict, None
    terms = granted(
        reduce(TermLimits.strictest, (row.limits for row in verdict.limiting), TermLimits()), checkout
    )
    if not is_counter_offer(terms, checkout):
        return verdict, terms
    hard = [
        row
        for row in verdict.limiting
        if row.component == "policy" and is_counter_offer(granted(row.limits, checkout), checkout)
    ]
    component: Component = "policy" if hard else "model"
    return replace(verdict, component=component, reasons=codes(hard)), terms


def _reasons(verdict: PolicyVerdict, model: LoadedBundle | None, vector: FeatureVector) -> list[str]:
    """Reason codes from the component that failed; none where nobody did."""
    if verdict.component == "model" and model is not None:
        return model.reasons(vector.values)
    return verdict.reasons[:MAX_REASONS]
