"""Decisions, their records, and the merchant's answers."""

from __future__ import annotations

import json

import lightgbm
import numpy as np
import pytest
from msgspec.structs import replace

from candor.clock import DAY, HOUR, SECOND, format_rfc3339
from candor.decision import parse_record
from candor.principal_reasons import MIN_EFFECT, MIN_SHARE
from tests.builders import bits
from tests.decide.lending import (
    DEFINITIONS,
    MODEL_CODES,
    NOW,
    REASONS,
    RETENTION_DAYS,
    RISKY,
    SAFE,
    champion,
    happened,
    take_in,
)
from tests.reasons.naive import Applicant, naive_codes

THREE_FAILURES = [happened(f"evt_{n}", NOW - HOUR) for n in range(3)]


def test_an_approval_says_how_much_until_when_and_nothing_else(till):
    answer = till.decide(total=SAFE)
    assert json.loads(answer.body) == {
        "id": answer.decision.id,
        "object": "decision",
        "checkout_id": "chk_1",
        "merchant_order_id": "A-1",
        "outcome": "approved",
        "counter_offer": False,
        "approved_amount_max": SAFE,
        "currency": "USD",
        "expires_at": format_rfc3339(NOW + HOUR),
        "terms": {"product": "pay_in_4", "installments": 4, "finance_charge": 0},
        "next_action": None,
        "livemode": False,
    }


@pytest.mark.parametrize(("total", "outcome"), [(RISKY, "declined"), (95_000, "declined")])
def test_a_decline_grants_nothing(till, total, outcome):
    body = json.loads(till.decide(total=total).body)
    assert (body["outcome"], body["approved_amount_max"], body["expires_at"]) == (outcome, 0, None)
    assert (body["terms"], body["counter_offer"]) == (None, False)
    assert (body["checkout_id"], body["merchant_order_id"]) == ("chk_1", "A-1")


def test_a_review_grants_no_terms(till):
    till.store.champion = None
    body = json.loads(till.decide(total=6_000).body)
    assert (body["outcome"], body["terms"], body["counter_offer"]) == ("action_required", None, False)


def test_the_score_alone_declines_with_model_codes_only(till):
    record = till.record(total=RISKY)
    assert record["score"] > record["cutoff"]
    assert (record["outcome"], record["component"], record["rules"]) == ("declined", "model", ["score"])
    assert 1 <= len(record["reasons"]) <= 4
    assert set(record["reasons"]) <= MODEL_CODES
    assert record["reasons"][0] == "R5"


def test_a_hard_rule_declines_with_its_own_code_only(till):
    take_in(till.store.features, *THREE_FAILURES)
    record = till.record(total=SAFE)
    assert record["score"] <= record["cutoff"]
    assert (record["outcome"], record["component"], record["reasons"]) == ("declined", "policy", ["H1"])


def test_where_both_fail_the_hard_rules_speak(till):
    take_in(till.store.features, *THREE_FAILURES)
    record = till.record(total=95_000)
    assert record["rules"] == ["failures", "limit", "score"]
    assert (record["component"], record["reasons"]) == ("policy", ["H1", "H2"])


def test_a_review_has_no_reasons(till):
    take_in(till.store.features, *[happened(f"evt_{n}", NOW - 60_000, "checkout.started") for n in range(5)])
    record = till.record(total=SAFE)
    assert (record["outcome"], record["component"], record["reasons"]) == ("action_required", "policy", [])


def test_a_table_that_fails_on_these_facts_sends_them_to_a_person(till):
    record = till.record(total=77_777)
    assert (record["outcome"], record["rules"], record["reasons"]) == (
        "action_required",
        ["policy_failed"],
        [],
    )


def test_model_reasons_are_those_of_the_training_package(till):
    take_in(till.store.features, *[happened("e", NOW - DAY, "payment.succeeded", amount=40_000, days_late=9)])
    record = till.record(total=RISKY)
    values = [np.nan if value is None else value for value in record["vector"]["values"]]
    bundle = champion()
    package = lightgbm.Booster(model_str=bundle.model)
    parts = package.predict([values], pred_contrib=True, num_threads=1)[0][:-1]
    applicant = Applicant(
        REASONS, DEFINITIONS.features, bundle.reason_basis, values, record["vector"]["states"]
    )
    expected = naive_codes(applicant, parts, MIN_EFFECT / bundle.calibration.slope, MIN_SHARE)
    assert record["reasons"] == expected
    raw = package.predict([values], raw_score=True, num_threads=1)[0]
    assert record["score"] == bundle.calibration.probability(float(raw))


def test_the_record_names_everything_that_decided(till):
    record = till.record(total=SAFE)
    assert record["bundle"] == champion().sha
    assert record["definition_hash"] == DEFINITIONS.hash
    assert record["regulation_profile"] == "US-federal/test"
    assert record["merchant_id"] == "mer_1"
    assert (record["q"], record["replay_clock"], record["degraded"]) == (NOW, False, False)
    assert record["request"]["applicant"]["token"] == "ann"
    assert record["propensity"] == 1.0
    stored = till.store.decisions[record["id"]]
    assert (stored.q, stored.merchant_id) == (NOW, "mer_1")
    assert stored.expires_at == (NOW + RETENTION_DAYS * DAY) // SECOND


def test_the_record_says_how_each_view_was_read(till):
    take_in(till.store.features, happened("e1", NOW - HOUR, "payment.succeeded", amount=1))
    vector = till.record(total=SAFE)["vector"]
    assert vector["states"] == {"paid": "present", "failed": "absent", "sales": "present", "device": "absent"}
    named = {"customer": "ann", "merchant": "mer_1", "device": "dev_1"}
    existing = {key for key, version in vector["versions"].items() if version is not None}
    paid, failed, sales, device = (view.item_keys(named[view.entity.name])[0] for view in DEFINITIONS.views)
    assert vector["versions"].keys() == {paid, failed, sales, device}, "every item that was read"
    assert existing == {paid, sales}
    assert vector["versions"][paid]["n"] == 1


@pytest.mark.parametrize("total", [SAFE, RISKY, 95_000])
def test_the_merchant_never_sees_score_reasons_rules_or_features(till, total):
    take_in(till.store.features, *THREE_FAILURES)
    answer = till.decide(total=total, token="canary_token", device={"fingerprint": "canary_device"})
    body = answer.body.decode()
    record = json.loads(till.store.decisions[answer.decision.id].record)
    hidden = {"score", "cutoff", "reason", "feature", "rule", "bundle", "vector", "canary"}
    hidden |= {*record["reasons"], *record["rules"], *DEFINITIONS.features, record["bundle"]}
    hidden |= {repr(record["score"]), repr(record["cutoff"])}
    assert [word for word in hidden if word in body] == []


def test_a_checkout_that_names_no_device_reads_none(till):
    keys_read = []
    read = till.store.read
    till.store.read = lambda keys, *more: keys_read.extend(keys) or read(keys, *more)
    vector = till.record(total=SAFE, device=None)["vector"]
    assert [key.partition("@")[0] for key in keys_read] == ["paid", "failed", "sales"]
    assert vector["states"]["device"] == "absent"


def test_a_record_is_read_back_as_the_decision_that_was_taken(till):
    decision = till.decide(total=SAFE).decision
    record = till.store.decisions[decision.id].record
    assert b"null" in record, "a value that is missing"
    again = parse_record(record)
    assert bits(again.vector.values) == bits(decision.vector.values)
    assert replace(again, vector=decision.vector) == decision
