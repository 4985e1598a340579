"""The lender's decision table, through the engine that evaluates it in production."""

from functools import reduce
from typing import Any

import pytest

import lender
from candor.policy import Facts, Policy, PolicyVerdict
from candor.policy.validation import Known, faults
from candor.terms import TermLimits, granted
from tests.reasons.lending import requested

FEATURES = lender.DEFINITIONS.features
TABLE = next(node for node in lender.policy()["nodes"] if node["type"] == "decisionTableNode")["content"]
NAN = float("nan")

USD, NGN = {"currency": "USD"}, {"currency": "NGN"}
FIRES: dict[str, dict[str, Any]] = {
    "account_flagged": {"customer_account.flagged.lifetime": 1.0},
    "open_dispute": {"customer_account.disputes_opened.lifetime": 1.0},
    "payments_failed": {"customer_failures.count.30d": 3.0},
    "installments_unpaid": {"request.unpaid_installments": 2.0},
    "charged_off": {"customer_loans.charged_off.lifetime": 1.0},
    "checkout_velocity": {"customer_checkouts.count.24h": 6.0},
    "device_shared": {"device_sharing.distinct_applicant.24h": 3.0},
    "exposure_limit_usd": USD | {"request.exposure": 300_001.0},
    "exposure_limit_ngn": NGN | {"request.exposure": 15_000_001.0},
    "amount_limit_usd": USD | {"amount": 200_001},
    "amount_limit_ngn": NGN | {"amount": 10_000_001},
    "first_loan_limit_usd": USD | {"amount": 100_001, "customer_loans.originated.lifetime": 0.0},
    "first_loan_limit_ngn": NGN | {"amount": 3_000_001, "customer_loans.originated.lifetime": 0.0},
    "unverified_usd": USD | {"amount": 5_001, "degraded": True},
    "unverified_ngn": NGN | {"amount": 500_001, "degraded": True},
    "currency_not_served": {"currency": "JPY"},
    "score_cutoff": {"score": 0.21},
    "terms_near_cutoff_usd": USD | {"score": 0.2},
    "terms_near_cutoff_ngn": NGN | {"score": 0.2},
    "price_low_risk_usd": USD | {"installments": 5},
    "price_near_cutoff_usd": USD | {"score": 0.2, "installments": 5},
}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(lender.policy())


def facts(**changes: Any) -> Facts:
    """A returning customer with nothing against them, changed by name."""
    score = changes.pop("score", 0.1)
    amount, currency = changes.pop("amount", 4_000), changes.pop("currency", "USD")
    degraded, installments = changes.pop("degraded", False), changes.pop("installments", 4)
    values = dict.fromkeys(FEATURES, 0.0) | {"customer_loans.originated.lifetime": 3.0} | changes
    assert len(values) == len(FEATURES)
    states = dict.fromkeys((view.name for view in lender.DEFINITIONS.views), "present")
    return Facts(score, 0.2, amount, currency, degraded, values, states, installments)


def test_the_table_has_no_fault():
    codes = [reason.code for reason in lender.REASONS if not reason.of_model]
    views = [view.name for view in lender.DEFINITIONS.views]
    assert faults(lender.policy(), Known(FEATURES, views, codes, lender.ACCEPTANCE.currencies)) == []


def test_each_row_is_covered_below():
    rows = {rule["_id"] for rule in TABLE["rules"]}
    assert rows == set(FIRES), (
        f"FIRES differs from the table in {', '.join(sorted(rows ^ set(FIRES)))}: set it"
    )


def test_rows_name_known_features_and_reasons():
    names = {f'features["{name}"]' for name in FEATURES}
    for column in TABLE["inputs"]:
        for named in column["field"].split(" - "):
            assert named in names or named in {"currency", "amount", "degraded", "installments", "score"}
    codes = {rule["reason"].strip('"') for rule in TABLE["rules"]} - {"null"}
    declared = {reason.code for reason in lender.REASONS if not reason.of_model}
    assert codes == declared, (
        f"{', '.join(sorted(codes ^ declared))}: a hard rule and its reason come together"
    )


def test_nothing_against_the_applicant_fires_nothing(policy):
    assert policy.decide(facts()) == PolicyVerdict("approved", None, [], [])


@pytest.mark.parametrize("rule", FIRES)
def test_each_rule_fires_alone(policy, rule):
    row = next(row for row in TABLE["rules"] if row["_id"] == rule)
    verdict = policy.decide(facts(**FIRES[rule]))
    others = ["terms_near_cutoff_usd"] if rule == "price_near_cutoff_usd" else []
    assert verdict.rules == [*others, rule]
    assert verdict.outcome == row["outcome"].strip('"')
    if verdict.outcome != "approved":
        assert verdict.component == row["component"].strip('"')
    assert verdict.reasons == ([] if row["reason"] == "null" else [row["reason"].strip('"')])


@pytest.mark.parametrize(
    "limit",
    [name for name in FIRES if "limit" in name or name.startswith("unverified")],
)
def test_a_limit_itself_is_still_granted(policy, limit):
    at_limit = {
        name: value - 1 if isinstance(value, int | float) and value > 1 else value
        for name, value in FIRES[limit].items()
    }
    assert policy.decide(facts(**at_limit)).outcome == "approved"


def test_a_cleared_flag_and_a_settled_dispute_count_no_more(policy):
    settled = facts(
        **{
            "customer_account.flagged.lifetime": 2.0,
            "customer_account.cleared.lifetime": 2.0,
            "customer_account.disputes_opened.lifetime": 1.0,
            "customer_account.disputes_closed.lifetime": 1.0,
        }
    )
    assert policy.decide(settled).outcome == "approved"


def test_the_score_of_the_cutoff_itself_is_approved(policy):
    assert policy.decide(facts(score=0.2)).outcome == "approved"


def test_without_score_and_features_only_small_amounts_pass(policy):
    unread = dict.fromkeys(FEATURES, NAN)
    small = policy.decide(facts(**unread, score=None, degraded=True, amount=5_000))
    large = policy.decide(facts(**unread, score=None, degraded=True, amount=5_001))
    assert (small.outcome, small.rules) == ("approved", [])
    assert (large.outcome, large.rules) == ("action_required", ["unverified_usd"])


def test_a_hard_rule_speaks_before_the_score(policy):
    verdict = policy.decide(facts(score=0.9, **FIRES["open_dispute"]))
    assert (verdict.component, verdict.reasons) == ("policy", ["H02"])


def test_every_call_gives_a_table_of_its_own():
    lender.policy()["nodes"].clear()
    assert lender.policy()["nodes"]


def test_near_the_cutoff_less_is_lent_in_fewer_instalments_and_for_more():
    near, safe = (terms_at(score, 200_000, 24) for score in (0.2, 0.1))
    assert near == (100_000, 12, 10_000)
    assert safe == (200_000, 24, 10_000)
    assert terms_at(0.2, 4_000, 4) == (4_000, 4, 0), "short credit has no price"


def terms_at(score: float, total: int, installments: int) -> tuple[int, int, int]:
    verdict = Policy(lender.policy()).decide(facts(score=score, amount=total, installments=installments))
    limits = reduce(TermLimits.strictest, (row.limits for row in verdict.limiting), TermLimits())
    terms = granted(limits, requested(total, installments))
    return terms.amount, terms.installments, terms.finance_charge
