"""Backtests: the same table changes nothing, a stricter one swaps out exactly the applicants it declines."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws

import lender
from candor.registry.artifacts import keep_bundle
from cli.policy import backtest as command
from tests.cli.deployed import REGION, Deployed, called
from tests.trained import train

TOTALS = (1_000, 3_000, 20_000, 60_000, 90_000, 150_000)


@pytest.fixture(scope="module")
def made():
    """A stage with six decisions by one bundle and one by none."""
    bundle = train(
        lender.DEFINITIONS,
        lender.policy(),
        lender.REASONS,
        {"request.amount": 100_000.0},
        monotone=lender.MONOTONE,
    )
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        command._JUDGES.clear()
        stage = Deployed()
        keep_bundle(boto3.client("s3"), "bundles", bundle.sha, bundle.to_bytes())
        decisions = [
            stage.decide(f"k{total}", f"cus_{total}", total=total, bundle=bundle) for total in TOTALS
        ]
        stage.decide("none", "cus_none")
        stage.deliver("decisions")
        yield bundle, decisions


def backtested(*words: str) -> dict:
    result = called("policy", "backtest", *words, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def stricter(tmp_path, most: int):
    """The lender's table with a lower limit."""
    table = lender.policy()
    [rows] = [node["content"]["rules"] for node in table["nodes"] if node["type"] == "decisionTableNode"]
    next(row for row in rows if row["_id"] == "amount_limit_usd")["amount"] = f"> {most}"
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(table))
    return str(file)


def test_the_same_table_changes_nothing(made):
    _, decisions = made
    result = backtested()
    assert result["decisions"] == len(decisions)
    assert result["left_out"] == {"nothing scored it": 1}
    assert result["before"] == result["now"]
    assert result["before"]["approved"] == sum(decision.outcome == "approved" for decision in decisions) > 1
    assert result["swap_set"]["in"]["approved"] == result["swap_set"]["out"]["approved"] == 0


def test_a_stricter_table_swaps_out_whom_it_declines_and_the_loss_is_theirs(made, tmp_path):
    _, decisions = made
    result = backtested("--policy", stricter(tmp_path, 2_000), "--loss-given-bad", "0.5")
    out = [
        decision
        for decision in decisions
        if decision.outcome == "approved" and decision.request.total > 2_000
    ]
    assert result["swap_set"]["out"]["approved"] == len(out) > 0
    assert result["swap_set"]["counts"]["approved"]["declined"] == len(out)
    expected = sum(decision.request.total * decision.score * 0.5 for decision in out)
    assert result["swap_set"]["out"]["expected_loss"] == {"USD": round(expected)}
    assert result["now"]["approved"] == result["before"]["approved"] - len(out)
    assert result["swap_set"]["out"]["amount"] == {"USD": sum(decision.request.total for decision in out)}


def test_another_model_is_tried_by_its_name_and_the_table_is_shown(made):
    bundle, _ = made
    assert backtested("--bundle", bundle.sha)["decisions"] == len(TOTALS) + 1
    shown = called("policy", "backtest").stdout
    for words in ("approval rate", "expected loss", " USD", "swapped out", "left out"):
        assert words in shown


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("backtest", "--bundle", "f" * 64), "register it again"),
        (("backtest", "--since", "2999-01-01T00:00:00Z"), "widen --since"),
    ],
)
def test_what_can_be_foreseen_is_one_line(made, words, why):
    result = called("policy", *words)
    assert (result.exit_code, why in result.stderr) == (1, True)
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_table_with_faults_is_neither_tried_nor_passed(made, tmp_path):
    file = stricter(tmp_path, 10**13)
    assert "never fires" in called("policy", "backtest", "--policy", file).stderr
    result = called("policy", "check", "--policy", file, "--json")
    assert result.exit_code == 1
    [fault] = json.loads(result.stdout)["faults"]
    assert "amount_limit_usd" in fault
    assert called("policy", "check").exit_code == 0
