"""`candor features consistency`: the report, its exit code, and the metrics that alarms watch."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws

from candor.clock import DAY, HOUR, SystemClock
from candor.contracts import Event
from candor.edge.streams import decision_record
from lender import DEFINITIONS
from tests.cli.deployed import REGION, Deployed, call

COUNTS = [
    feature.name
    for view in DEFINITIONS.views_by_event["payment.failed"]
    for feature in view.features
    if feature.window.length is None or feature.window.length >= 7 * DAY
]
"""Features that an event of the day before changes, however many the lender declares."""


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield Deployed()


def failure(number: int) -> Event:
    data = {"loan_id": "l1", "amount": 100, "currency": "USD"}
    at = SystemClock().now_ms() - DAY - number * HOUR
    return Event(f"e{number}", "payment.failed", at, {"customer": "cus_1"}, data)


def test_a_difference_that_is_explained_is_told_and_is_no_failure(stage):
    stage.happen([failure(1)])
    stage.decide("a")
    late = failure(2)
    stage.archive_events([late], SystemClock().now_ms() + 5_000)
    stage.apply([late])
    stage.deliver()
    result = call("consistency", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["as_served_mismatches"], report["compared"]) == (0, 0, 1)
    assert list(report["causes"]) == ["lateness"]
    assert report["causes"]["lateness"]["features"] == len(COUNTS)
    assert report["causes"]["lateness"]["decisions_percent"] == 100.0
    assert report["freshness_ms"]["customer_failures"]["events"] == 2
    printed = call("consistency").stdout
    assert "lateness" in printed
    assert "cus_1" not in printed


def test_a_lost_event_fails_the_command_and_is_published(stage):
    stage.happen([failure(1)])
    stage.archive_events([failure(2)])  # the bus took it a day ago, and nothing applied it
    stage.decide("a")
    stage.deliver()
    result = call("consistency", "--json", "--publish")
    assert result.exit_code == 1
    assert f"0 decisions served wrongly, {len(COUNTS)} differences unexplained" in result.stderr
    named = {difference["feature"] for difference in json.loads(result.stdout)["unexplained"]}
    assert named == set(COUNTS) >= {"customer_failures.count.30d", "customer_failures.count.90d"}
    figures = set()
    for metric in boto3.client("cloudwatch").list_metrics(Namespace="Candor")["Metrics"]:
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
        assert (dimensions.pop("service"), dimensions.pop("stage")) == ("consistency", "dev")
        figures.add((metric["MetricName"], *dimensions.values()))
    assert {("AsServedMismatches",), ("UnexplainedDifferences",)} < figures
    assert ("FreshnessP99", "customer_failures") in figures


def test_a_record_that_was_changed_is_a_mismatch(stage):
    stage.happen([failure(1)])
    stage.decide("a")
    stage.deliver("features", "synchronous")
    [record] = stage.records("decisions")
    body = json.loads(decision_record(record))
    place = DEFINITIONS.features.index("customer_failures.count.30d")
    body["vector"]["values"][place] += 1
    stage.put("decisions/", [json.dumps({"id": body["id"], "q": body["q"], "record": body}).encode()])
    result = call("consistency", "--json")
    assert (result.exit_code, json.loads(result.stdout)["as_served_mismatches"]) == (1, 1)


def test_nothing_decided_is_nothing_to_report(stage):
    result = call("consistency", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["decisions"], report["causes"]) == (0, 0, {})
