"""Assessment of one application: score, policy, reasons; shared by decisions, replays, shadows and backtests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from math import isfinite
from typing import NamedTuple

from msgspec.structs import replace

from candor.contracts import Checkout
from candor.errors import BundleRefused, DefinitionError, ModelRefused, PolicyError
from candor.features.vector import FeatureVector
from candor.model.bundle import Bundle
from candor.policy import Component, Facts, Outcome, Policy, PolicyVerdict, codes, compiled
from candor.principal_reasons import PrincipalReasons
from candor.reasons import MAX_REASONS, Catalogue
from candor.terms import TermLimits, Terms, granted, is_counter_offer


class LoadedBundle:
    """A bundle, loaded and compiled. Raises `BundleRefused` if a part of it is invalid."""

    def __init__(self, sha: str, bundle: Bundle) -> None:
        self.sha = sha
        self.bundle = bundle
        try:
            self.engine = bundle.load()
            self.policy = compiled(bundle.policy)
            self.catalogue = Catalogue(bundle.reasons, bundle.features)
        except (ModelRefused, PolicyError, DefinitionError) as error:
            raise BundleRefused(f"bundle {sha[:12]}: {error}") from error

    @cached_property
    def principal_reasons(self) -> PrincipalReasons | None:
        """The choice of reasons, made at the first decline; None for a bundle of before that method."""
        basis, slope = self.bundle.reason_basis, self.bundle.calibration.slope
        return None if basis is None else PrincipalReasons(self.catalogue, basis, slope)

    def score(self, values: Sequence[float]) -> float | None:
        """Probability that the checkout turns bad; None if the raw score is not finite.

        A table would read such a score as null, and null fires no row: the application would pass as good.
        """
        raw = self.engine.raw(values)
        return self.bundle.score(raw) if isfinite(raw) else None

    def reasons(self, values: Sequence[float], states: Mapping[str, str]) -> list[str]:
        """Codes of the model's principal reasons for declining this applicant; `states` are by view name."""
        contributions = self.engine.contributions(values)[:-1]
        if self.principal_reasons is None:
            return self.catalogue.model_reasons(contributions, self.bundle.reason_reference)
        return self.principal_reasons.codes(contributions, values, states)

    def effects(
        self, contributions: Sequence[float], values: Sequence[float], states: Mapping[str, str]
    ) -> dict[str, tuple[float, float]]:
        """(contribution, that near the cut-off) by factor, in raw log odds, as the reasons were chosen."""
        if self.principal_reasons is None:
            reference = self.bundle.reason_reference
            parts = self.catalogue.by_factor(contributions)
            return {name: (part, reference.get(name, 0.0)) for name, part in parts.items()}
        attribution = self.principal_reasons.attribution(contributions, values, states)
        return {effect.reason.factor: (effect.part, effect.reference) for effect in attribution.effects}


class Assessment(NamedTuple):
    """Result of underwriting one application.

    `component` is the one that declined or limited it; None if it was granted as requested. `terms` are those of an
    approval.
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
    """Score by `model` (None: no model), then apply `policy`. `features` name the vector's values.

    `unseen`: earlier approvals of a burst could not be read, so nothing is granted.
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
    """The policy's verdict; manual review if the table fails on these facts."""
    try:
        return policy.decide(facts)
    except PolicyError:
        return PolicyVerdict("action_required", None, ["policy_failed"], [])


def _withheld(verdict: PolicyVerdict) -> PolicyVerdict:
    """Turn an approval into a manual review."""
    if verdict.outcome != "approved":
        return verdict
    return PolicyVerdict("action_required", "policy", [*verdict.rules, "synchronous_unavailable"], [])


def _granted(verdict: PolicyVerdict, checkout: Checkout) -> tuple[PolicyVerdict, Terms | None]:
    """Terms of an approval; a counter-offer's verdict names the limiting component, hard rules before the score."""
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
    """Reason codes of the component that declined or limited; empty if none did."""
    if verdict.component == "model" and model is not None:
        return model.reasons(vector.values, vector.states)
    return verdict.reasons[:MAX_REASONS]
