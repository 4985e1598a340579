"""The feature tables' stream on moto: one line per commit, none for markers and removals."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from candor.store.dynamodb import DynamoFeatureStore
from tests.builders import NOW, definitions_of, event, shop, take_in, view_of
from tests.handlers.archived import arrived, create_stream, records_of, refusing
from tests.handlers.lambdas import Ears, context, create_table, drain, load
from tests.handlers.lending import CANARY

STREAM, TABLE = "commits", "features-log-test"
ORDINARY, HOT = view_of(["lifetime"]), view_of(["lifetime"], shop)


@pytest.fixture(scope="module")
def module():
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        create_stream(STREAM)
        queue = boto3.client("sqs").create_queue(QueueName="streams-dlq")["QueueUrl"]
        yield load("log_commits", monkeypatch, {"COMMITS_STREAM": STREAM, "STREAMS_DLQ_URL": queue})


@pytest.fixture(scope="module")
def records(module):
    """Stream records of three commits of two items, of a marker, and of its removal."""
    tables = boto3.client("dynamodb")
    arn = create_table(TABLE, "NEW_AND_OLD_IMAGES")
    store = DynamoFeatureStore(TABLE)
    for view, name in ((ORDINARY, "e1"), (ORDINARY, "e2"), (HOT, "e1")):
        given = event(name, NOW - 1_000, entities={"customer": "ann", "shop": "mer_1"}, amount=1)
        take_in([given], definitions_of(view), store)
    keys = [item["pk"] for item in tables.scan(TableName=TABLE)["Items"]]
    [marker] = [key for key in keys if key["S"].startswith("marker#")]
    tables.delete_item(TableName=TABLE, Key={"pk": marker})
    return records_of(arn)


@pytest.fixture
def log(module):
    drain(module.DLQ_URL)
    arrived(STREAM)
    return lambda records: module.handler({"Records": records}, context("log_commits"))


def test_each_commit_is_one_line_and_nothing_else_is(log, records):
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "INSERT", "INSERT", "REMOVE"]
    assert log(records) == {"batchItemFailures": []}
    lines = arrived(STREAM)
    assert [(line["n"], line["event_ids"]) for line in lines] == [(1, ["e1"]), (2, ["e2"]), (1, ["e1"])]
    assert {line["applied_at"] for line in lines} == {NOW}
    assert lines[0]["birth"] == lines[1]["birth"]
    assert lines[0]["key"] == lines[1]["key"] != lines[2]["key"]


def test_a_record_that_cannot_be_read_is_a_letter_and_stops_nobody(
    module, log, records, monkeypatch, capsys, caplog
):
    ears = Ears(module, monkeypatch, capsys, caplog)
    broken = json.loads(json.dumps(records[1]))
    broken["dynamodb"]["NewImage"]["ids"] = {"S": CANARY}
    assert log([records[0], broken, *records[2:]]) == {"batchItemFailures": []}
    assert [line["event_ids"] for line in arrived(STREAM)] == [["e1"], ["e1"]]
    [message] = drain(module.DLQ_URL)
    body = json.loads(message["Body"])
    assert body["sequence_number"] == records[1]["dynamodb"]["SequenceNumber"]
    assert body["keys"] == records[1]["dynamodb"]["Keys"]
    assert message["MessageAttributes"]["code"]["StringValue"] == "unreadable_record"
    heard = ears.heard()
    assert '"RecordsRefused":[1.0]' in heard.replace(" ", "")
    assert CANARY not in heard


def test_a_stream_that_refuses_at_times_gets_every_line(module, log, records, monkeypatch):
    sizes = refusing(module.FIREHOSE, monkeypatch, times=2)
    assert log(records) == {"batchItemFailures": []}
    assert sizes == [1, 1, 1]
    assert len(arrived(STREAM)) == 3


def test_a_stream_that_keeps_refusing_brings_the_records_back(module, log, records, monkeypatch):
    sizes = refusing(module.FIREHOSE, monkeypatch, times=99)
    first = records[0]["dynamodb"]["SequenceNumber"]
    assert log(records) == {"batchItemFailures": [{"itemIdentifier": first}]}
    assert sizes == [1, 1, 1]
    assert arrived(STREAM) == []


def test_a_stream_that_is_away_fails_the_batch_and_lambda_repeats_it(module, log, records, monkeypatch):
    def away(**_):
        raise EndpointConnectionError(endpoint_url="https://firehose.example")

    monkeypatch.setattr(module.FIREHOSE, "put_record_batch", away)
    with pytest.raises(EndpointConnectionError):
        log(records)
