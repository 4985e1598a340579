"""`candor features replay` on what moto's streams brought to the archive."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws

from candor.clock import DAY, HOUR, MINUTE, SystemClock, format_rfc3339
from candor.contracts import Event
from candor.store.erasures import Erasures
from tests.cli.deployed import REGION, Deployed, call


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield Deployed()


def payments(count: int, token: str = "cus_1") -> list[Event]:
    now = SystemClock().now_ms()
    data = {"loan_id": "l1", "amount": 100, "currency": "USD"}
    return [
        Event(f"{token}-{n}", "payment.failed", now - n * HOUR, {"customer": token}, data)
        for n in range(count, 0, -1)
    ]


def lived(stage: Deployed) -> list[str]:
    """Some payments and decisions; ids of the decisions."""
    ids = []
    for round_ in range(3):
        stage.happen(payments(5 * round_ + 1))
        ids.append(stage.decide(f"k{round_}").id)
    stage.deliver()
    return ids


def test_every_decision_is_exact(stage):
    lived(stage)
    result = call("replay", "--json")
    report = json.loads(result.stdout)
    assert (report["decisions"], report["exact"], report["different"]) == (3, 3, 0)
    assert (result.exit_code, report["not_replayable"]) == (0, {})


def test_a_decision_by_its_id_is_shown_feature_by_feature(stage):
    ids = lived(stage)
    result = call("replay", ids[2], "--json")
    [named] = json.loads(result.stdout)["named"]
    failures = next(
        feature for feature in named["features"] if feature["name"] == "customer_failures.count.30d"
    )
    assert (named["id"], failures["served"], failures["replayed"]) == (ids[2], 11.0, 11.0)
    printed = call("replay", ids[2]).stdout
    assert "customer_failures.count.30d" in printed
    assert "cus_1" not in printed


def test_a_tampered_record_is_found_and_fails_the_command(stage):
    first, *_ = lived(stage)
    [key] = [
        entry["Key"]
        for entry in boto3.client("s3").list_objects_v2(Bucket="archive", Prefix="decisions/")["Contents"]
    ]
    from gzip import decompress

    lines = decompress(boto3.client("s3").get_object(Bucket="archive", Key=key)["Body"].read()).splitlines()
    line = json.loads(lines[0])
    line["record"]["vector"]["values"][0] = 99.0
    boto3.client("s3").delete_object(Bucket="archive", Key=key)
    stage.put("decisions/", [json.dumps(line).encode(), *lines[1:], lines[1]])
    result = call("replay", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert "1 decisions differ" in result.stderr
    assert (report["decisions"], report["different"]) == (3, 1), "a line that came twice counts once"
    assert report["differing"][0]["id"] == first
    assert [difference["name"] for difference in report["differing"][0]["differences"]] == [
        "customer_checkouts.count.1h"
    ]


def test_what_the_log_lacks_is_told_and_is_no_difference(stage):
    lived(stage)
    stage.happen(payments(30))
    stage.decide("later")
    stage.deliver("decisions")
    report = json.loads(call("replay", "--json").stdout)
    assert (report["exact"], report["not_replayable"]) == (3, {"log incomplete": 1})
    assert "not replayable: log incomplete" in call("replay").stdout


def test_decisions_are_chosen_by_when_they_were_made(stage):
    ids = lived(stage)
    old = stage.decide("old", replay_at=SystemClock().now_ms() - 30 * DAY).id
    stage.deliver()

    def chosen(*words: str) -> int:
        return json.loads(call("replay", *words, "--json").stdout)["decisions"]

    assert chosen("--last", "2") == 2
    assert chosen("--since", "1h") == 4, "the replay clock does not count"
    assert chosen("--until", "1h") == 0
    later = format_rfc3339(SystemClock().now_ms() + MINUTE)
    assert chosen("--until", later) == 4
    assert chosen(ids[0], old) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["dec_unknown"], 1, "not in the archive: dec_unknown"),
        (["--since", "yesterday"], 2, "give a moment as"),
        (["--local", "--state", "nowhere"], 1, "no local system runs in nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(stage, words, code, said):
    result = call("replay", *words)
    assert (result.exit_code, "Traceback" in result.stderr) == (code, False)
    assert said in result.stderr


def test_a_person_who_was_erased_is_not_shown_again(stage):
    lived(stage)
    Erasures("registry").begin("customer", "cus_1", SystemClock().now_ms() + 1, "")
    report = json.loads(call("replay", "--json").stdout)
    assert report["not_replayable"] == {"a person in it was erased since": 3}
