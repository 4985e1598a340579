"""A run is started once: a running or finished one is returned, a failed one restarts under the next number."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws
from moto.core.config import default_user_config

from cli.state_machine import begin
from tests.cli.deployed import REGION, Deployed, called

ROLE = "arn:aws:iam::123456789012:role/r"
PASSED = {"registration": {"bundle": "b" * 64, "passed": True, "compared": True}}
DONE = {"StartAt": "RegisterModel", "States": {
    "RegisterModel": {"Type": "Pass", "Result": PASSED, "End": True},
}}  # fmt: skip
BROKEN = {"StartAt": "BuildDataset", "States": {
    "BuildDataset": {"Type": "Fail", "Error": "Boom", "Cause": '{"FailureReason": "no checkout has a known end"}'},
}}  # fmt: skip


@pytest.fixture
def states(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setitem(default_user_config["stepfunctions"], "execute_state_machine", True)
    with mock_aws():
        Deployed()
        yield boto3.client("stepfunctions")


def machine(states, definition) -> str:
    [retraining] = states.list_state_machines()["stateMachines"]
    states.update_state_machine(
        stateMachineArn=retraining["stateMachineArn"], definition=json.dumps(definition), roleArn=ROLE
    )
    return retraining["stateMachineArn"]


def retrain(*words: str):
    return called("retrain", *words, "--json")


@pytest.mark.parametrize(
    ("promotion", "compared", "words", "reason"),
    [
        (
            "manual",
            True,
            ["--promote"],
            "on this stage people promote; use `candor models promote bbbbbbbbbbbb`",
        ),
        ("policy", True, [], "the run was started without --promote; use `candor models promote"),
        ("policy", False, ["--promote"], "the gates could not compare it with the champion"),
    ],
)
def test_a_run_that_succeeded_says_why_it_was_not_promoted(monkeypatch, promotion, compared, words, reason):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setitem(default_user_config["stepfunctions"], "execute_state_machine", True)
    passed = {"registration": PASSED["registration"] | {"compared": compared}}
    with mock_aws():
        Deployed(Promotion=promotion)
        machine(
            boto3.client("stepfunctions"),
            {"StartAt": "End", "States": {"End": {"Type": "Pass", "Result": passed, "End": True}}},
        )
        summary = json.loads(retrain("--run", "r1", "--wait", *words).stdout)
    assert summary["status"] == "SUCCEEDED"
    assert summary["promoted"].startswith(f"no: {reason}")


def test_the_auc_of_a_run_says_what_it_is_measured_on(states, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    metrics = {"auc": 0.70297, "auc_low": 0.6, "auc_high": 0.8}
    passed = {"registration": PASSED["registration"] | {"metrics": metrics}}
    machine(states, {"StartAt": "End", "States": {"End": {"Type": "Pass", "Result": passed, "End": True}}})
    assert json.loads(retrain("--run", "r1", "--wait").stdout)["validation_auc"] == metrics["auc"]
    printed = called("retrain", "--run", "r1", "--wait").stdout
    assert "validation AUC" in printed
    assert "0.7030 (95 %: 0.600 to 0.800), on the latest part of the training set" in printed


def started(states, arn: str) -> list[str]:
    return sorted(each["name"] for each in states.list_executions(stateMachineArn=arn)["executions"])


def test_the_same_name_is_the_same_run(states):
    arn = machine(states, DONE)
    first = json.loads(retrain("--run", "r1", "--wait", "--promote").stdout)
    assert first == {
        "run": "r1",
        "status": "SUCCEEDED",
        "began": True,
        "bundle": "b" * 64,
        "passed": True,
        "promoted": "yes",
    }
    again = json.loads(retrain("--run", "r1", "--wait").stdout)
    assert again == {**first, "began": False}
    assert started(states, arn) == ["r1"]
    given = states.describe_execution(executionArn=f"{arn.replace('stateMachine', 'execution')}:r1")["input"]
    assert json.loads(given) == {"run": "r1", "promote": True}


def test_a_run_that_goes_on_is_not_started_again(states):
    arn = machine(states, {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 30, "End": True}}})
    assert [begin(states, arn, {"run": "r1"}).began for _ in range(2)] == [True, False]
    assert json.loads(retrain("--run", "r1").stdout)["status"] == "RUNNING"
    assert started(states, arn) == ["r1"]


def test_a_run_that_failed_goes_on_under_the_next_number_and_tells_why(states):
    arn = machine(states, BROKEN)
    for _ in range(2):
        result = retrain("--run", "r1", "--wait")
        assert result.exit_code == 1
        assert "run r1 ended FAILED: no checkout has a known end" in result.stderr
    assert started(states, arn) == ["r1", "r1.2"]
    machine(states, DONE)
    assert json.loads(retrain("--run", "r1", "--wait").stdout)["status"] == "SUCCEEDED"
    assert started(states, arn) == ["r1", "r1.2", "r1.3"]


def test_a_run_without_a_name_is_named_by_the_time(states):
    machine(states, DONE)
    summary = json.loads(retrain("--wait", "--as-of", "2017-07-22T00:00:00Z").stdout)
    assert summary["run"].startswith("run-20")
    assert retrain("--run", "two--hyphens").exit_code == 1
