"""Commands on versions of views: serving, flip, rollback and backfill, against mocked AWS."""

from __future__ import annotations

import gzip
import json

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws
from msgspec.structs import replace

from candor import Count, Definitions, FeatureView, type_is
from candor.clock import DAY, SystemClock, format_rfc3339
from candor.contracts import Event, encode_event
from candor.registry.registry import Registry
from candor.registry.registry_table import RegistryItem
from candor.store.dynamodb import FeatureItem, bound
from candor.store.erasures import Erasures
from cli.__main__ import candor
from cli.features import backfill, flip, versions
from lender import DEFINITIONS

OLD = next(view for view in DEFINITIONS.views if view.name == "customer_failures")
NEW = FeatureView(
    OLD.name, OLD.entity, OLD.events, [Count(where=type_is("payment.failed"), name="count")], OLD.windows
)
LONGER = FeatureView(OLD.name, OLD.entity, OLD.events, [Count()], ["365d"])
KEPT = Definitions(
    entities=DEFINITIONS.entities.values(),
    events=DEFINITIONS.event_types.values(),
    views=DEFINITIONS.views,
    candidate_views=[NEW, LONGER],
    on_demand=DEFINITIONS.on_demand,
)
OUTPUTS = {
    "RegistryTableName": "registry",
    "FeaturesTableName": "features",
    "SynchronousFeaturesTableName": "synchronous",
    "ArchiveBucketName": "archive",
    "RedeliveryHorizonDays": "20",
}
STACK = {
    "Resources": {"Q": {"Type": "AWS::SQS::Queue"}},
    "Outputs": {name: {"Value": value} for name, value in OUTPUTS.items()},
}


@pytest.fixture(autouse=True)
def stage(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for module in (backfill, flip, versions):
        monkeypatch.setattr(module, "DEFINITIONS", KEPT)
    with mock_aws():
        bound(RegistryItem, "registry").create_table(wait=True)
        bound(FeatureItem, "features").create_table(wait=True)
        where = {"LocationConstraint": "eu-west-1"}
        boto3.client("s3").create_bucket(Bucket="archive", CreateBucketConfiguration=where)
        boto3.client("cloudformation").create_stack(
            StackName="candor-dev-storage", TemplateBody=json.dumps(STACK)
        )
        yield


def call(*words: str):
    return CliRunner().invoke(candor, ["features", *words])


def served(*words: str) -> dict[str, str]:
    pointer = json.loads(call(*words, "--json").stdout)
    return {row["view"]: row["version"] for row in pointer["views"] if row["serves"]}


def test_before_any_flip_the_declared_versions_serve():
    assert served("serving") == {view.name: view.version for view in DEFINITIONS.views}
    assert f"{NEW.version} │ stands by" in call("serving").stdout


def test_a_flip_and_its_rollback():
    assert served("flip", OLD.name, "--to", NEW.version, "--by", "ana")[OLD.name] == NEW.version
    (flip,) = Registry("registry").pointer().switches
    assert (flip.view, flip.after, flip.by) == (OLD.name, NEW.version, "ana")
    assert served("rollback", OLD.name)[OLD.name] == OLD.version


def test_a_flip_to_the_declared_version_leaves_nothing_on_the_pointer():
    served("flip", OLD.name, "--to", NEW.version)
    assert served("flip", OLD.name, "--to", OLD.version)[OLD.name] == OLD.version
    assert Registry("registry").pointer().views == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["flip", "nothing", "--to", "0"], 'no view is named "nothing"; there are customer_checkouts'),
        (["flip", OLD.name, "--to", "00000000"], f"not kept in version 00000000; kept: {OLD.version}"),
        (["flip", OLD.name, "--to", LONGER.version], "train a model on it"),
        (["rollback", OLD.name], "there is no switch to roll back"),
        (["serving", "--stage", "prod"], "stage prod has no output RegistryTableName"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(words, said):
    result = call(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert Registry("registry").pointer().moves == 0


def archive(events: list[Event]) -> None:
    lines = [
        json.dumps({"time": format_rfc3339(event.occurred_at + 5), "detail": json.loads(encode_event(event))})
        for event in events
    ]
    data = gzip.compress("\n".join(lines).encode())
    boto3.client("s3").put_object(Bucket="archive", Key="events/2026/1.gz", Body=data)


def failures(count: int) -> list[Event]:
    now = SystemClock().now_ms()
    data = {"loan_id": "l1", "amount": 100, "currency": "USD"}
    return [
        Event(f"e{n}", "payment.failed", now - n * DAY, {"customer": f"cus_{n % 3}"}, data)
        for n in range(count, 0, -1)
    ]


def test_a_version_is_filled_once_and_compared():
    archive(failures(60))
    first = json.loads(call("backfill", OLD.name, "--to", NEW.version, "--json").stdout)
    assert (first["filled"], first["events"], first["failures"]) == (3, 60, {})
    assert (first["compared"], first["different"]) == (3, 0)
    again = json.loads(call("backfill", OLD.name, "--to", NEW.version, "--json").stdout)
    assert (again["filled"], again["filled_before"], again["different"]) == (0, 3, 0)
    assert Registry("registry").backfill(f"{NEW.name}@{NEW.version}").done


def test_an_item_that_lacks_an_event_is_found_by_the_comparison():
    events = failures(60)
    archive(events[:-1])
    call("backfill", OLD.name, "--to", NEW.version)
    archive(events)
    result = call("backfill", OLD.name, "--to", NEW.version, "--json")
    assert json.loads(result.stdout)["different"] == 0, "a young event goes the updater's way"
    archive([replace(events[0], id="lost"), *events])  # an old one, and the item was filled before
    result = call("backfill", OLD.name, "--to", NEW.version, "--json")
    assert result.exit_code == 1
    assert "run the same command again" in result.stderr


def test_what_was_erased_is_not_filled_in_again():
    archive(failures(60))
    Erasures("registry").begin("customer", "cus_1", SystemClock().now_ms() - 30 * DAY, "")
    call("backfill", OLD.name, "--to", NEW.version)
    values = {
        token: json.loads(call("show", NEW.name, token, "--version", NEW.version, "--json").stdout)
        for token in ("cus_1", "cus_2")
    }
    counts = {token: answer["features"]["customer_failures.count.90d"] for token, answer in values.items()}
    assert counts == {"cus_1": 10.0, "cus_2": 20.0}
