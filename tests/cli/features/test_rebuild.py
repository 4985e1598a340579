"""`candor features rebuild` and `show`: an item made stale by a void becomes exact again while the updater writes."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws
from msgspec.structs import replace

import cli.features.rebuild
from candor.clock import DAY, HOUR, FixedClock, SystemClock, parse_rfc3339
from candor.contracts import Event
from candor.features.state import ViewState
from candor.store.dynamodb import DynamoFeatureStore
from history.rebuild.verification import verify
from lender import DEFINITIONS
from tests.cli.deployed import REGION, Deployed, call, called

ARCHIVED = parse_rfc3339("2026-11-25T00:00:00Z")
"""Past the hour into which the stage's archive delivers."""

REPAYMENTS = next(view for view in DEFINITIONS.views if view.name == "customer_repayments")


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield Deployed()


def payment(number: int, token: str = "cus_1") -> Event:
    data = {"loan_id": "l1", "amount": 100, "currency": "USD", "days_late": number}
    at = SystemClock().now_ms() - 60 * DAY + number * HOUR
    return Event(f"{token}-{number}", "payment.succeeded", at, {"customer": token}, data)


def made_stale(stage: Deployed, token: str = "cus_1") -> list[Event]:
    """Eighty payments of which the one with the most days late, folded long ago, is voided."""
    events = [payment(number, token) for number in range(80)]
    events[5] = replace(events[5], data={**events[5].data, "days_late": 900})
    void = replace(events[5], voided_at=SystemClock().now_ms() - DAY)
    stage.happen(events)
    stage.happen([void])
    assert state(token).stale
    return [*events, void]


def state(token: str = "cus_1") -> ViewState:
    [key] = REPAYMENTS.item_keys(token)
    return ViewState.decode(REPAYMENTS, DynamoFeatureStore("features").load([key])[key].blob)


def assert_exact(events: list[Event], token: str = "cus_1") -> None:
    """Equal to the offline engine, bit for bit."""
    now = SystemClock().now_ms()
    arguments = (DEFINITIONS, REPAYMENTS, events, [token], DynamoFeatureStore("features"), now)
    verified = verify(*arguments)
    assert (verified.compared, list(verified.different)) == (1, [])


def test_a_stale_item_is_exact_once_it_is_rebuilt_and_replay_goes_across(stage):
    events = made_stale(stage)
    before = stage.decide("before")
    stage.deliver()
    result = call("rebuild", REPAYMENTS.name, "--pending", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"items": 1, "rebuilt": 1, "left": {}})
    assert not state().stale
    assert_exact(events)
    stage.happen([payment(81)])
    after = stage.decide("after")
    stage.deliver()
    place = DEFINITIONS.features.index("customer_repayments.max_days_late.lifetime")
    assert (before.vector.values[place], after.vector.values[place]) == (900.0, 81.0)
    replay = json.loads(call("replay", "--json").stdout)
    assert (replay["exact"], replay["different"], replay["not_replayable"]) == (2, 0, {})


def test_the_updater_writes_meanwhile_and_waiting_catches_up(stage, monkeypatch):
    events = made_stale(stage)
    stage.deliver()
    more = [payment(90), payment(91)]
    load, overtaken, waited = DynamoFeatureStore.load, [], []

    def overtaking(self, keys):
        items = load(self, keys)
        if not overtaken:
            overtaken.append(1)
            stage.happen(more)
        return items

    monkeypatch.setattr(DynamoFeatureStore, "load", overtaking)

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        stage.deliver()

    monkeypatch.setattr(cli.features.rebuild.time, "sleep", sleep)
    result = call("rebuild", REPAYMENTS.name, "--entity", "cus_1", "--wait", "--json")
    assert (result.exit_code, json.loads(result.stdout)["rebuilt"], len(waited)) == (0, 1, 1)
    assert_exact([*events, *more])


def test_it_is_rebuilt_from_the_index_and_what_came_since(stage, monkeypatch):
    events = made_stale(stage)
    stage.deliver()
    monkeypatch.setattr("cli.archive.index.SystemClock", lambda: FixedClock(ARCHIVED))
    for written, kept in ((1, 0), (0, 1)):
        results = json.loads(called("archive", "index", "--json").stdout)["index"]
        assert [(each["kind"], each["written"], each["kept"]) for each in results] == [
            ("commits", written, kept),
            ("events", written, kept),
        ]
        assert all(each["finished"] for each in results)
    assert "commits" in called("archive", "index").stdout
    s3 = boto3.client("s3")
    for name in ("events/2026/11/24/08/stream-1-00001.gz", "commits/2026/11/24/08/stream-1-00003.gz"):
        s3.delete_object(Bucket="archive", Key=name)  # the index has its lines
    result = call("rebuild", REPAYMENTS.name, "--entity", "cus_1", "--json")
    assert (result.exit_code, json.loads(result.stdout)["rebuilt"]) == (0, 1)
    assert_exact(events)


def test_without_waiting_it_says_that_the_archive_lags_and_changes_nothing(stage):
    made_stale(stage)
    stage.deliver("decisions")
    result = call("rebuild", REPAYMENTS.name, "--pending", "--json")
    assert (result.exit_code, json.loads(result.stdout)["left"]) == (1, {"log incomplete": 1})
    assert "run the same command again" in result.stderr
    assert state().stale


def test_only_stale_items_are_pending(stage):
    made_stale(stage)
    stage.happen([payment(number, "cus_2") for number in range(3)])
    stage.deliver()
    assert json.loads(call("rebuild", REPAYMENTS.name, "--pending", "--json").stdout)["items"] == 1
    assert json.loads(call("rebuild", REPAYMENTS.name, "--pending", "--json").stdout)["items"] == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing", "--pending"], 1, 'no view is named "nothing"; there are customer_checkouts'),
        ([REPAYMENTS.name], 2, "give either --entity or --pending"),
        ([REPAYMENTS.name, "--entity", "x", "--pending"], 2, "give either --entity or --pending"),
        ([REPAYMENTS.name, "--entity", "nobody"], 1, "no item of this entity is stored"),
    ],
)
def test_what_cannot_be_is_one_line(stage, words, code, said):
    result = call("rebuild", *words)
    assert (result.exit_code, "Traceback" in result.stderr) == (code, False)
    assert said in result.stderr


def test_an_item_is_shown_with_what_it_holds_and_answers(stage):
    made_stale(stage)
    shown = json.loads(call("show", REPAYMENTS.name, "cus_1", "--json").stdout)
    [item] = shown["items"]
    assert (shown["state"], shown["version"]) == ("stale", REPAYMENTS.version)
    assert (item["stale"], item["markers"], item["filled"], item["erased_at"]) == (True, False, False, None)
    assert (item["commits"], item["known_ids"]) == (2, 81)
    assert item["bytes"] > 500 > item["raw_events"] >= 32
    assert shown["features"]["customer_repayments.max_days_late.lifetime"] == 900.0
    printed = call("show", REPAYMENTS.name, "cus_1").stdout
    assert "customer_repayments.max_days_late.lifetime" in printed
    assert "l1" not in printed


def test_an_entity_that_nobody_knows_and_a_moment_that_is_folded(stage):
    made_stale(stage)
    nobody = json.loads(call("show", REPAYMENTS.name, "nobody", "--json").stdout)
    assert (nobody["state"], nobody["items"]) == ("absent", [{"state": "absent"}])
    earlier = json.loads(call("show", REPAYMENTS.name, "cus_1", "--at", "59d", "--json").stdout)
    assert earlier["state"] == "unavailable"
    assert set(earlier["features"].values()) == {None}
