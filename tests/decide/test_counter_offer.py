"""Counter-offers: the merchant's answer, the record and the event."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from candor.decision import decided, parse_record
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from tests.decide.lending import DEFINITIONS, POLICY_CODES, SAFE, Shelf, Till, champion
from tests.decision_tables import row, table

LIMIT = 1_000


def till(limited: dict[str, str], **kind: str | None) -> Till:
    """One that approves, with the limits of one row."""
    rows = [
        row("score", component="model", score="> cutoff"),
        row("limit", "approved", score="<= cutoff", **kind) | limited,
    ]
    bundle = structs.replace(champion(), policy=table(rows, {"score": "score"}))
    return Till(MemoryDecisionStore(MemoryFeatureStore(), bundle.sha), Shelf(bundle))


@pytest.mark.parametrize("kind", [{"component": "model"}, {"reason": "H2"}])
def test_less_is_an_approval_with_reasons_of_who_limited_it(kind):
    answer = till({"limit": str(LIMIT)}, **kind).decide(total=SAFE)
    body, decision = json.loads(answer.body), answer.decision
    assert (body["outcome"], body["counter_offer"], body["approved_amount_max"]) == ("approved", True, LIMIT)
    assert body["expires_at"]
    assert decision.component == kind.get("component", "policy")
    assert 1 <= len(decision.reasons) <= 4
    assert (set(decision.reasons) <= POLICY_CODES) is ("reason" in kind)
    assert decision.adverse_action.kind == "counter_offer"
    assert decided(decision, DEFINITIONS).data["approved_amount"] == LIMIT


def test_fewer_payments_and_a_price_are_the_answers_terms():
    answer = till({"installments": "2", "charge_bps": "250"}, component="model").decide(total=SAFE)
    body = json.loads(answer.body)
    terms = body["terms"]
    assert body["counter_offer"] is True
    assert terms == {"product": "pay_in_4", "installments": 2, "finance_charge": SAFE * 250 // 10_000}
    assert json.loads(answer.body)["approved_amount_max"] == SAFE


def test_limits_that_allow_what_was_asked_refuse_nobody():
    answer = till({"limit": "4000", "installments": "4", "charge_bps": "0"}, component="model").decide()
    decision = answer.decision
    assert json.loads(answer.body)["counter_offer"] is False
    assert (decision.outcome, decision.component, decision.reasons) == ("approved", None, [])
    assert decision.adverse_action is None


def test_the_record_brings_the_terms_back():
    shop = till({"limit": str(LIMIT)}, component="model")
    decision = shop.decide(total=SAFE).decision
    again = parse_record(shop.store.decisions[decision.id].record)
    assert (again.terms, again.adverse_action) == (decision.terms, decision.adverse_action)


def test_a_decline_has_no_terms_and_is_no_counter_offer():
    body = json.loads(till({"limit": "10"}, component="model").decide(total=80_000).body)
    assert (body["outcome"], body["approved_amount_max"]) == ("declined", 0)
    assert (body["terms"], body["counter_offer"]) == (None, False)
