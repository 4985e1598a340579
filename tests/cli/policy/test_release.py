"""Commands of a policy release: propose, approve, roll back, with the decisions before, between and after."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws

import cli.stage
import lender
from candor.model.bundle import Bundle
from candor.model.policy_document import PolicyDocument
from candor.policy import table_hash
from candor.registry.artifacts import keep_bundle, read_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from cli.policy import propose
from tests.cli.deployed import REGION, Deployed, called
from tests.cli.policy.conftest import DRIVERS, decided
from tests.decision_tables import limited
from tests.trained import train


def file_of(tmp_path, table, name: str = "table.json") -> str:
    path = tmp_path / name
    path.write_text(json.dumps(table))
    return str(path)


def policy(*words: str) -> dict:
    result = called("policy", *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*words: str) -> str:
    result = called("policy", *words)
    assert result.exit_code in (1, 2)
    return result.stderr


def test_a_rule_changes_at_once_and_replays_before_and_after_stay_exact(deployed, champion, tmp_path):
    stage = deployed()
    before = decided(stage, "before", 3_000)
    table = limited(2_000)
    proposed = policy("propose", file_of(tmp_path, table), "--why", "losses in July", "--by", "ana")
    assert (proposed["release"], proposed["state"]) == (1, "proposed")
    assert proposed["replaces"] == {"release": 0, "table": table_hash(lender.policy())}
    assert proposed["backtest"]["swap_set"]["out"]["approved"] == 2, "the decisions above the new limit"
    assert Registry("registry").pointer().bundle == champion.sha
    approved = policy("approve", "--by", "ana")
    assert (approved["release"], approved["table"]) == (1, table_hash(table))
    between = decided(stage, "between", 3_000)
    assert (before.outcome, between.outcome, between.reasons) == ("approved", "declined", ["H08"])
    assert (between.bundle, between.policy) == (approved["champion"], table_hash(table))
    rolled = policy("rollback", "--why", "too strict", "--by", "bob")
    assert (rolled["release"], rolled["champion"]) == (0, champion.sha)
    after = decided(stage, "after", 3_000)
    assert (after.outcome, after.bundle, after.policy) == ("approved", before.bundle, before.policy)
    for decision in (before, between, after):
        result = called("decisions", "replay", decision.id, "--json")
        assert (result.exit_code, json.loads(result.stdout)["same"]) == (0, True), result.stderr
    shown = {
        decision.id: json.loads(called("decisions", "show", decision.id, "--json").stdout)["policy_release"]
        for decision in (before, between, after)
    }
    assert shown == {before.id: None, between.id: 1, after.id: None}


def test_the_history_says_who_when_why_and_both_tables(deployed, tmp_path):
    deployed()
    policy("propose", file_of(tmp_path, limited(2_000)), "--why", "losses", "--by", "ana", "--apply")
    policy("rollback", "--why", "too strict", "--by", "bob")
    [release] = policy("history")["releases"]
    hashes = [table_hash(lender.policy())[:12], table_hash(limited(2_000))[:12]]
    assert [(step["to"], step["by"], step["why"]) for step in release["steps"]] == [
        ("proposed", "ana", f"table {hashes[0]} -> {hashes[1]}: losses"),
        ("released", "ana", f"table {hashes[0]} -> {hashes[1]}: losses"),
        ("retired", "bob", f"table {hashes[1]} -> {hashes[0]}: too strict"),
    ]
    assert release["state"] == "retired"
    assert "retired" in called("policy", "history").stdout


def test_two_persons_by_name_and_by_identity(deployed, tmp_path, monkeypatch, champion):
    deployed(PromotionApproval="second_person")
    who = {"arn": "arn:ana"}
    monkeypatch.setattr(cli.stage.Stage, "identity", lambda _: who["arn"])
    table = file_of(tmp_path, limited(2_000))
    assert "requires a second person" in refused("propose", table, "--why", "w", "--by", "ana", "--apply")
    result = called("policy", "propose", table, "--why", "losses", "--by", "ana")
    assert "candor policy approve 1" in result.stdout
    assert "swapped out" in result.stdout
    for arn, by in (("arn:ana", "bob"), ("arn:bob", "ana")):
        who["arn"] = arn
        assert "somebody else must approve" in refused("approve", "1", "--by", by)
    assert Registry("registry").pointer().bundle == champion.sha
    who["arn"] = "arn:bob"
    assert policy("approve", "1", "--by", "bob")["release"] == 1
    assert policy("rollback", "--by", "ana")["champion"] == champion.sha, "a rollback needs no approval"


def test_the_codes_table_differs_from_the_released_one_and_candor_says_so(deployed, tmp_path):
    deployed()
    assert policy("show")["notice"] is None
    policy("propose", file_of(tmp_path, limited(2_000)), "--why", "w", "--apply")
    shown = policy("show", "--out", str(tmp_path / "now"))
    assert shown["notice"].startswith(f"the code's table {table_hash(lender.policy())[:12]} differs from")
    assert (shown["table"], shown["release"]) == (table_hash(limited(2_000)), 1)
    assert json.loads((tmp_path / "now/policy.json").read_text()) == limited(2_000)
    reasons = json.loads((tmp_path / "now/reasons.json").read_text())
    assert [reason["code"] for reason in reasons] == [r.code for r in lender.REASONS if not r.of_model]
    assert "differs from" in called("policy", "show").stdout


def test_a_new_reason_is_released_with_its_rule(deployed, tmp_path):
    stage = deployed()
    policy("show", "--out", str(tmp_path))
    reasons = json.loads((tmp_path / "reasons.json").read_text())
    reasons.append({"code": "H11", "text": "Amount of purchases at night", "factor": "night"})
    table = limited(2_000)
    rows = table["nodes"][1]["content"]["rules"]
    next(row for row in rows if row["_id"] == "amount_limit_usd")["reason"] = '"H11"'
    file, reasons_file = file_of(tmp_path, table), file_of(tmp_path, reasons, "reasons.json")
    assert 'the catalogue has no reason "H11"' in refused("propose", file, "--why", "w")
    policy("propose", file, "--reasons", reasons_file, "--why", "w", "--apply")
    decision = decided(stage, "new", 3_000)
    assert decision.reasons == ["H11"]
    explained = json.loads(called("decisions", "explain", decision.id, "--json").stdout)
    assert explained["reasons"] == [{"code": "H11", "text": "Amount of purchases at night"}]
    reasons[-1] = {**reasons[-1], "features": ["request.*"]}
    again = file_of(tmp_path, reasons, "reasons.json")
    assert "belongs to the model" in refused("propose", file, "--reasons", again, "--why", "w")


def test_a_table_that_approves_nobody_of_late_is_not_proposed(deployed, tmp_path, monkeypatch):
    deployed()
    monkeypatch.setattr(propose, "TELLING", 3)
    why = refused("propose", file_of(tmp_path, limited(10)), "--why", "w")
    assert "approves none of the 3 decisions it was tried on, where 3 were approved" in why
    assert Registry("registry").releases() == []


def test_a_rollback_of_the_model_keeps_the_released_table(deployed, tmp_path, champion):
    stage = deployed()
    second = train(
        lender.DEFINITIONS, lender.policy(), lender.REASONS, DRIVERS, seed=8, monotone=lender.MONOTONE
    )
    keep_bundle(boto3.client("s3"), "bundles", second.sha, second.to_bytes())
    digest = PolicyDocument.in_bundle(second).digest
    registry = Registry("registry")
    registry.register(Registration(second.sha, "candidate", {}, "run", 3, policy=digest))
    registry.promote(second.sha, by="ana", at=4)
    policy("propose", file_of(tmp_path, limited(2_000)), "--why", "w", "--apply")
    result = called("models", "rollback", "--json")
    assert result.exit_code == 0, result.stderr
    decision = decided(stage, "rolled", 3_000)
    assert (decision.bundle, decision.policy) == (
        json.loads(result.stdout)["champion"],
        table_hash(limited(2_000)),
    )
    served = Bundle.from_bytes(read_bundle(boto3.client("s3"), "bundles", decision.bundle))
    assert served.model == champion.model


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("approve",), "propose a table first"),
        (("approve", "7"), "there is no release 7"),
        (("rollback",), "no policy release is in force"),
        (("propose", "FILE", "--why", "w"), "decides already"),
        (("propose", "FILE"), "Missing option '--why'"),
    ],
)
def test_what_can_be_foreseen_is_told_and_changes_nothing(deployed, champion, tmp_path, words, why):
    deployed()
    table = file_of(tmp_path, lender.policy())
    assert why in refused(*(table if word == "FILE" else word for word in words))
    assert Registry("registry").pointer().bundle == champion.sha


def test_without_a_champion_there_is_nothing_to_release(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        Deployed()
        assert "no champion serves yet" in refused("propose", file_of(tmp_path, limited(2_000)), "--why", "w")
