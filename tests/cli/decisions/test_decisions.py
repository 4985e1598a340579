"""Decisions are shown, explained and repeated, long after other models serve."""

from __future__ import annotations

import json
import re

import boto3
import pytest
from moto import mock_aws

import lender
from candor.registry.artifacts import keep_bundle
from candor.store.dynamodb import DynamoDecisionStore
from tests.cli.deployed import REGION, Deployed, called
from tests.trained import train

TOKEN = "cus_canary"
RISKY = 90_000


@pytest.fixture(scope="module")
def bundle():
    return train(
        lender.DEFINITIONS,
        lender.policy(),
        lender.REASONS,
        {"request.amount": 100_000.0},
        monotone=lender.MONOTONE,
    )


@pytest.fixture
def stage(monkeypatch, bundle):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        deployed = Deployed()
        keep_bundle(boto3.client("s3"), "bundles", bundle.sha, bundle.to_bytes())
        yield deployed


def rows(decision_id: str) -> dict:
    return json.loads(called("decisions", "replay", decision_id, "--json").stdout)


def changed(decision_id: str, **changes) -> None:
    """The record in the table with something else in it."""
    record = json.loads(
        DynamoDecisionStore("features", "decisions", lambda: (None, None)).get(decision_id).record
    )
    boto3.client("dynamodb").update_item(
        TableName="decisions",
        Key={"pk": {"S": decision_id}},
        UpdateExpression="SET r = :r",
        ExpressionAttributeValues={":r": {"B": json.dumps(record | changes).encode()}},
    )


@pytest.mark.parametrize("total", [1_000, RISKY, 150_000])
def test_a_decision_comes_out_the_same_from_record_and_bundle(stage, bundle, total):
    decision = stage.decide("k", TOKEN, total=total, bundle=bundle)
    result = called("decisions", "replay", decision.id, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    replay = json.loads(result.stdout)
    assert replay["same"]
    assert replay["parts"]["score"]["replayed"] == repr(decision.score)
    assert json.loads(replay["parts"]["reasons"]["replayed"]) == decision.reasons
    assert called("decisions", "replay", decision.id).exit_code == 0


def test_it_does_so_from_the_archive_once_the_table_has_forgotten(stage, bundle):
    decision = stage.decide("k", TOKEN, total=RISKY, bundle=bundle)
    stage.deliver("decisions")
    boto3.client("dynamodb").delete_item(TableName="decisions", Key={"pk": {"S": decision.id}})
    assert rows(decision.id)["same"]


def test_it_does_so_without_a_bundle_by_the_table_of_this_release(stage):
    decision = stage.decide("k", TOKEN, total=150_000)
    assert decision.bundle is None
    assert rows(decision.id)["same"]


@pytest.mark.parametrize(
    "changes",
    [{"score": 0.123}, {"outcome": "approved"}, {"reasons": ["R01"]}, {"rules": []}, {"policy": "0" * 64}],
)
def test_a_record_that_was_changed_is_found(stage, bundle, changes):
    decision = stage.decide("k", TOKEN, total=RISKY, bundle=bundle)
    changed(decision.id, **changes)
    result = called("decisions", "replay", decision.id, "--json")
    assert result.exit_code == 1
    assert f"Error: {next(iter(changes))} differ" in result.stderr


def test_show_tells_all_but_who_it_was(stage, bundle):
    decision = stage.decide("k", TOKEN, total=RISKY, bundle=bundle)
    result = called("decisions", "show", decision.id, "--json")
    record = json.loads(result.stdout)
    assert (record["outcome"], record["score"]) == (decision.outcome, decision.score)
    assert list(record["features"]) == list(lender.DEFINITIONS.features)
    assert record["request"]["applicant"]["token"] == "hidden"
    for text in (result.stdout, called("decisions", "show", decision.id).stdout):
        assert TOKEN not in text
        assert "dev_1" not in text
    assert "request.amount" in text


def test_explain_ranks_factors_as_the_reasons_do_and_writes_the_notice(stage, bundle):
    decision = stage.decide("k", TOKEN, total=RISKY, bundle=bundle)
    assert decision.component == "model"
    explanation = json.loads(called("decisions", "explain", decision.id, "--json").stdout)
    factors = {reason.code: reason.factor for reason in lender.REASONS}
    codes = [reason["code"] for reason in explanation["reasons"]]
    assert codes == decision.reasons
    assert [factors[code] for code in codes] == [factor["factor"] for factor in explanation["factors"]][
        : len(codes)
    ]
    assert all(reason["text"] for reason in explanation["reasons"])
    assert (explanation["notice"]["kind"], explanation["notice"]["consumer_reports"]) == ("declined", [])
    request = decision.request
    assert (explanation["merchant_order_id"], explanation["amount"]) == (request.merchant_order_id, RISKY)
    text = called("decisions", "explain", decision.id, "--notice").stdout
    assert f"- {explanation['reasons'][0]['text']}" in text
    assert lender.REGULATION_PROFILE.creditor.name in text
    assert f"- Order: {request.merchant_order_id}\n" in text
    assert "- Terms that we offered: none\n" in text
    assert called("decisions", "explain", decision.id).exit_code == 0


@pytest.mark.parametrize("command", ["show", "explain", "replay"])
def test_what_can_be_foreseen_is_one_line_with_its_remedy(stage, bundle, command, tmp_path):
    said = [called("decisions", command, "dec_none").stderr]
    assert "not in the archive" in said[0]
    decision = stage.decide("k", TOKEN, bundle=bundle)
    boto3.client("s3").delete_object(Bucket="bundles", Key=f"bundles/{bundle.sha}.json")
    if command != "show":
        said.append(called("decisions", command, decision.id).stderr)
        assert "register it again" in said[1]
    assert all(re.fullmatch(r"Error: .*\n", line) for line in said)


def test_a_fallback_decision_asks_for_its_own_table(stage, tmp_path):
    decision = stage.decide("k", TOKEN)
    other = lender.policy()
    other["nodes"][1]["content"]["rules"].pop()
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(other))
    result = called("decisions", "replay", decision.id, "--policy", str(file))
    assert (result.exit_code, "give that table with --policy" in result.stderr) == (1, True)
    file.write_text("[")
    assert "is not JSON" in called("decisions", "replay", decision.id, "--policy", str(file)).stderr


PYTHON_VALUE = re.compile(r"[{\[]'|'\]|: None|\bNone\b|\bTrue\b|\bFalse\b|\bnan\b|17\d{11}")
"""A Python dict, list, None, bool, NaN, or a moment in ms."""


def test_tables_have_units_and_no_python_values(stage, bundle, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    decision = stage.decide("k", TOKEN, total=RISKY, bundle=bundle)
    assert (decision.outcome, decision.adverse_action is not None) == ("declined", True)
    shown, explained = (called("decisions", verb, decision.id).stdout for verb in ("show", "explain"))
    for text in (shown, explained):
        assert not PYTHON_VALUE.search(text), PYTHON_VALUE.search(text)
        assert f"{decision.score:.2%}" in text
    cells = dict(re.findall(r"│ (\S+) +│ (.+?) +│", shown))
    assert cells["request.total"] == "900.00 USD"
    assert cells["request.amount"] == "900.00 USD"
    assert cells["request.offer.period_days"].endswith(" days")
    assert cells["request.items.1.unit_price"].endswith(" USD")
    assert cells["customer_loans.since_originated.lifetime"] == "missing"
    assert cells["adverse_action.due_at"].endswith("Z")
    assert f"reasons.{decision.reasons[0]}" in explained


def test_approvals_owe_no_notice(stage, bundle):
    decision = stage.decide("k", TOKEN, total=1_000, bundle=bundle)
    assert "owes no notice" in called("decisions", "explain", decision.id, "--notice").stderr
