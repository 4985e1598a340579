"""Adverse action under Regulation B and the Fair Credit Reporting Act: tests of requirements AA1 to AA12."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

import lender
from candor import Reason
from candor.clock import DAY
from candor.errors import DefinitionError
from candor.model.bundle import Bundle
from candor.notice import NoNotice, render
from candor.policy import Policy
from candor.reasons import BANNED, MAX_REASONS, Catalogue, unspecific_reasons
from candor.regulation import AdverseAction, adverse_action, is_incidental
from candor.terms import Terms
from candor.underwriting import LoadedBundle
from tests.decide.lending import NOW, PROFILE, REASONS, RISKY, SAFE, Till
from tests.decision_tables import row as table_row
from tests.decision_tables import table
from tests.examples import examples
from tests.lender.test_policy import FIRES
from tests.reasons.lending import (
    FEATURES,
    MODEL_CODES,
    POLICY_CODES,
    TEXTS,
    assessment_of,
    bundle,
    fallback,
    harmless,
    model,
    requested,
    row,
)

LIMITED = Policy(
    table(
        [table_row("small", "approved", reason="H08", amount="> 100") | {"limit": "100"}],
        {"amount": "amount"},
    )
)
GOLDEN = Path(__file__).with_name("golden")
ABOVE = 1e9
"""An amount of exposure that no limit allows."""


def contributions(values) -> list[float]:
    return model().engine.contributions(values)[:-1]


def declined_by_score(count: int = 50) -> list[list[float]]:
    """Applicants whom the score alone declines."""
    rng = random.Random(3)
    declined: list[list[float]] = []
    while len(declined) < count:
        values = harmless(rng)
        if assessment_of(values).component == "model" and assessment_of(values).outcome == "declined":
            declined.append(values)
    return declined


# AA1: specific reasons


def test_aa1_no_text_of_the_lender_is_insufficient():
    assert unspecific_reasons(lender.REASONS) == []


@pytest.mark.parametrize("phrase", BANNED)
def test_aa1_a_text_that_names_no_factor_is_found(phrase):
    [fault] = unspecific_reasons([Reason("R1", f"Failed: {phrase.upper()}y", "any")])
    assert "R1" in fault
    assert "not specific" in fault


@examples(300)
@given(st.randoms(use_true_random=False), st.integers(1, 400_000), st.sampled_from(["USD", "NGN", "JPY"]))
def test_aa1_every_refusal_on_any_path_has_a_reason(rng, total, currency):
    for by in (model(), None):
        values = row(rng, **{"request.exposure": rng.choice([0.0, ABOVE])})
        assessment = assessment_of(values, requested(total, currency=currency), by=by)
        refused = assessment.outcome == "declined" or assessment.component == "model"
        assert bool(assessment.reasons) == refused
        assert set(assessment.reasons) <= set(TEXTS)


# AA2: not more than four


@examples(200)
@given(st.randoms(use_true_random=False), st.integers(1, 400_000))
def test_aa2_there_are_one_to_four_over_all_components(rng, total):
    values = row(
        rng, **dict.fromkeys(["customer_account.flagged.lifetime", "request.unpaid_installments"], 5.0)
    )
    for assessment in (
        assessment_of(values, requested(total)),
        assessment_of(harmless(rng), requested(total)),
    ):
        assert len(assessment.reasons) == len(set(assessment.reasons)) <= MAX_REASONS
        if assessment.outcome == "declined":
            assert assessment.reasons


def test_aa2_a_fifth_hard_rule_is_not_told():
    against = {name: 9.0 for name in FEATURES if name.startswith(("customer_account.", "customer_failures."))}
    against |= {"customer_account.cleared.lifetime": 0.0, "customer_account.disputes_closed.lifetime": 0.0}
    against |= {"customer_loans.charged_off.lifetime": 1.0, "request.unpaid_installments": 4.0}
    assessment = assessment_of(row(random.Random(1), **against))
    assert len(assessment.rules) > MAX_REASONS
    assert assessment.reasons == ["H01", "H02", "H03", "H04"]


# AA3: factors that were scored, none of them left out


def test_aa3_a_reason_is_a_factor_of_the_model_that_contributed():
    catalogue = model().catalogue
    for values in declined_by_score():
        parts = contributions(values)
        for code in assessment_of(values).reasons:
            own = [
                part
                for place, part in zip(catalogue.factor_of, parts, strict=True)
                if catalogue.reasons[place].code == code
            ]
            assert any(own), "a feature of the model, with a contribution that is not zero"


def test_aa3_no_scored_feature_can_be_kept_from_the_applicant():
    for silenced in lender.REASONS:
        if silenced.features:
            with pytest.raises(DefinitionError, match="needs exactly one"):
                Catalogue([reason for reason in lender.REASONS if reason is not silenced], FEATURES)


def test_aa3_whoever_raised_the_risk_most_comes_first():
    reference = bundle().reason_reference
    for values in declined_by_score():
        factors = model().catalogue.by_factor(contributions(values))
        above = {name: part - reference[name] for name, part in factors.items()}
        [worst] = [r.code for r in lender.REASONS if r.features and above[r.factor] == max(above.values())]
        assert assessment_of(values).reasons[0] == worst


# AA4: the factor, not how or why


def test_aa4_a_text_tells_no_threshold():
    assert not any(character.isdigit() for text in TEXTS.values() for character in text)
    [fault] = unspecific_reasons([Reason("R1", "More than 3 late payments", "late")])
    assert "threshold" in fault


def test_aa4_a_text_that_says_nothing_or_the_same_twice_is_found():
    assert (
        len(
            unspecific_reasons([Reason("R1", " ", "a"), Reason("R2", "Late", "b"), Reason("R3", "late", "c")])
        )
        == 2
    )


# AA5: against applicants at or slightly above the minimum passing score; recomputed in tests/training/test_train.py


def test_aa5_the_reference_is_of_the_bundle_and_changes_its_name():
    original = bundle()
    assert set(original.reason_reference) == {reason.factor for reason in lender.REASONS if reason.features}
    moved = dict(original.reason_reference) | {"terms": original.reason_reference["terms"] + 1.0}
    assert structs.replace(original, reason_reference=moved).sha != original.sha


def test_aa5_the_reference_decides_what_is_told():
    values = declined_by_score(1)[0]
    catalogue, parts = model().catalogue, contributions(values)
    first = assessment_of(values).reasons[0]
    factor = next(reason.factor for reason in lender.REASONS if reason.code == first)
    reference = dict(bundle().reason_reference) | {factor: 100.0}
    assert first not in catalogue.model_reasons(parts, reference)


# AA6: reasons of the component that was failed


@examples(300)
@given(st.randoms(use_true_random=False), st.integers(1, 400_000), st.sampled_from(["USD", "NGN", "JPY"]))
def test_aa6_reasons_come_from_the_component_that_failed_and_no_other(rng, total, currency):
    assessment = assessment_of(row(rng), requested(total, currency=currency))
    codes = {"policy": POLICY_CODES, "model": MODEL_CODES, None: set[str]()}[assessment.component]
    assert set(assessment.reasons) <= codes
    if assessment.outcome == "declined":
        assert assessment.component is not None


def test_aa6_a_hard_rule_speaks_alone_where_the_score_failed_too():
    values = declined_by_score(1)[0]
    values[FEATURES.index("customer_account.flagged.lifetime")] = 1.0
    assessment = assessment_of(values)
    assert "score_cutoff" in assessment.rules
    assert (assessment.component, assessment.reasons) == ("policy", ["H01"])


# AA7: an automatic denial is itself disclosed


@pytest.mark.parametrize("rule", [name for name in FIRES if name != "score_cutoff"])
def test_aa7_each_hard_rule_has_a_text_of_its_own(rule):
    nodes = lender.policy()["nodes"]
    [rows] = [node["content"]["rules"] for node in nodes if node["type"] == "decisionTableNode"]
    matching = next(row for row in rows if row["_id"] == rule)
    if matching["outcome"] == '"declined"':
        assert matching["reason"].strip('"') in POLICY_CODES


def test_aa7_a_rule_without_a_reason_cannot_decline():
    assert (
        "policy_failed"
        in assessment_of(
            harmless(random.Random(1)),
            policy=Policy(table([table_row("r", when="> 0")], {"when": "amount - 1"})),
        ).rules
    )


# AA8: within 30 days, 90 after a counter-offer


def test_aa8_a_decline_says_when_its_notice_is_due_and_when_to_remind():
    owed = Till().decide(total=RISKY).decision.adverse_action
    assert (owed.kind, owed.due_at, owed.remind_at) == ("declined", NOW + 30 * DAY, NOW + 20 * DAY)


def test_aa8_an_approval_as_asked_and_an_open_case_owe_none():
    till = Till()
    assert till.decide("a", total=SAFE).decision.adverse_action is None
    till.store.champion = None
    assert till.decide("b", total=RISKY).decision.outcome in ("declined", "action_required")
    offer = requested().offer
    assert adverse_action(PROFILE, offer, "action_required", NOW, counter_offer=False) is None


def test_aa8_a_counter_offer_starts_a_clock_and_has_reasons():
    assessment = assessment_of(harmless(random.Random(1)), by=None, policy=LIMITED)
    assert (assessment.outcome, assessment.terms.amount) == ("approved", 100)
    assert (assessment.component, assessment.reasons) == ("policy", ["H08"])
    owed = adverse_action(PROFILE, requested().offer, assessment.outcome, NOW, counter_offer=True)
    assert (owed.kind, owed.due_at, owed.remind_at) == ("counter_offer", NOW + 90 * DAY, NOW + 20 * DAY)


def test_aa8_the_notice_names_action_creditor_rights_agency_and_reasons():
    decision = Till().decide(total=RISKY).decision
    text = render(decision, REASONS, PROFILE)
    texts = {reason.code: reason.text for reason in REASONS}
    for part in (
        "could not approve your application",
        "Test Lender, 1 Test Street",
        "Equal Credit Opportunity Act",
        "Test Agency, 2 Test Street",
        *(f"- {texts[code]}" for code in decision.reasons),
    ):
        assert part in text
    assert str(decision.score) not in text


def test_aa8_the_notice_names_the_purchase_the_amount_and_that_no_terms_were_offered():
    decision = Till().decide(total=RISKY).decision
    text = render(decision, REASONS, PROFILE)
    for line in (
        "- Merchant: mer_1",
        "- Order: A-1",
        "- Date: 2027-01-15",
        "- Credit that you asked for: 800.00 USD in 4 payments, every 14 days, with a finance charge of 0.00 USD",
        "- Terms that we offered: none",
    ):
        assert f"\n{line}\n" in text
    granted = replace(decision, terms=Terms(80_000, 4, 0))
    assert render(granted, REASONS, PROFILE) == text, "terms in a record of a decline were never offered"


def test_aa8_the_notice_of_a_counter_offer_names_its_terms():
    decision = replace(
        Till().decide(total=RISKY).decision,
        outcome="approved",
        terms=Terms(1_234_567, 1, 50),
        adverse_action=AdverseAction("counter_offer", 2, 1),
    )
    text = render(decision, REASONS, PROFILE)
    assert "offered you other terms" in text
    offered = "12,345.67 USD in 1 payment, after 14 days, with a finance charge of 0.50 USD"
    assert f"- Terms that we offered: {offered}\n" in text


@pytest.mark.parametrize(
    ("currency", "amount"),
    [("JPY", "80,000 JPY"), ("KWD", "80.000 KWD"), ("XTS", "80000 minor units of XTS")],
)
def test_aa8_an_amount_has_the_decimals_of_its_currency(currency, amount):
    decision = Till().decide(total=RISKY).decision
    decision = replace(decision, request=replace(decision.request, currency=currency))
    assert f"asked for: {amount} in 4 payments" in render(decision, REASONS, PROFILE)


def test_aa8_no_notice_is_written_where_none_is_owed_or_a_text_is_missing():
    till = Till()
    with pytest.raises(NoNotice, match="owes no notice"):
        render(till.decide("a", total=SAFE).decision, REASONS, PROFILE)
    declined = till.decide("b", total=RISKY).decision
    with pytest.raises(NoNotice, match="no text for R5"):
        render(declined, REASONS[:2], PROFILE)
    with pytest.raises(NoNotice, match="US-federal/test"):
        render(declined, REASONS, replace(PROFILE, name="other"))


# AA9, where a consumer report was used: test_consumer_reports.py


# AA10: many features, one factor


def test_aa10_factors_and_bias_add_up_to_the_raw_score():
    rng = random.Random(5)
    for _ in range(300):
        values = row(rng)
        *parts, bias = model().engine.contributions(values)
        total = math.fsum([*model().catalogue.by_factor(parts).values(), bias])
        assert abs(total - model().engine.raw(values)) < 1e-9


def test_aa10_factors_are_those_of_the_training_package():
    package = lightgbm.Booster(model_str=bundle().model)
    rng = random.Random(6)
    rows = [row(rng) for _ in range(200)]
    expected = package.predict(np.array(rows), pred_contrib=True, num_threads=1)
    catalogue = model().catalogue
    for values, parts in zip(rows, expected.tolist(), strict=True):
        ours, theirs = (catalogue.by_factor(scores) for scores in (contributions(values), parts[:-1]))
        assert all(abs(ours[name] - theirs[name]) < 1e-9 for name in ours)


# AA11: the same snapshot, the same reasons in the same order


def test_aa11_the_same_facts_are_told_the_same_again_and_by_another_process():
    for values in declined_by_score(20):
        again = type(model())(bundle().sha, type(bundle()).from_bytes(bundle().to_bytes()))
        assert (
            assessment_of(values).reasons
            == assessment_of(values).reasons
            == assessment_of(values, by=again).reasons
        )


def test_aa11_golden_files_say_what_was_told_before():
    """The bundle and its reasons are golden files: a change would alter reasons that were sent."""
    kept = Bundle.from_bytes((GOLDEN / "bundle.json").read_bytes())
    by = LoadedBundle(kept.sha, kept)
    golden = json.loads((GOLDEN / "reasons.json").read_text())
    assert len({tuple(case["reasons"]) for case in golden}) >= 8
    for case in golden:
        values = [math.nan if value is None else value for value in case["values"]]
        assert assessment_of(values, by=by, policy=by.policy).reasons == case["reasons"]


def test_aa11_ties_are_told_in_the_order_of_the_catalogue():
    catalogue = Catalogue(lender.REASONS, FEATURES)
    per_factor = {place: catalogue.factor_of.count(place) for place in set(catalogue.factor_of)}
    same = [1.0 / per_factor[place] for place in catalogue.factor_of]
    rounded = {name: round(part, 9) for name, part in catalogue.by_factor(same).items()}
    assert set(rounded.values()) == {1.0}
    ones = [
        1.0 if catalogue.factor_of.index(place) == at else 0.0 for at, place in enumerate(catalogue.factor_of)
    ]
    assert catalogue.model_reasons(ones, {}) == ["R01", "R02", "R03", "R04"]


# AA12: incidental credit is told all the same, unless the lender says so


@pytest.mark.parametrize(
    ("installments", "charge", "incidental"), [(4, 0, True), (5, 0, False), (4, 1, False), (1, 0, True)]
)
def test_aa12_the_flag_of_the_profile_says_whether_incidental_credit_is_told(
    installments, charge, incidental
):
    offer = requested(4_000, installments, charge).offer
    assert is_incidental(offer) is incidental
    assert adverse_action(PROFILE, offer, "declined", NOW, counter_offer=False) is not None
    exempt = replace(PROFILE, exempts_incidental=True)
    assert (adverse_action(exempt, offer, "declined", NOW, counter_offer=False) is None) is incidental


def test_aa12_the_lender_sends_it_anyway():
    assert lender.REGULATION_PROFILE.exempts_incidental is False
    assert fallback().hash == Policy(json.loads(json.dumps(lender.policy()))).hash
