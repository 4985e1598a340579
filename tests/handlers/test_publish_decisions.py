"""The decisions' stream on moto: each new decision is archived as written, and published on the bus at least once."""

from __future__ import annotations

import json
from base64 import b64encode

import boto3
import msgspec
import pytest
from moto import mock_aws

from candor.clock import HOUR, SystemClock
from candor.contracts import parse_envelope, parse_event
from candor.decision import Decision, decided, parse_record, to_record
from candor.features.vector import FeatureVector
from candor.store.dynamodb import DynamoDecisionStore
from candor.store.protocol import StoredDecision
from lender import DEFINITIONS
from tests.handlers.archived import arrived, create_stream, records_of, refusing
from tests.handlers.checkouts import checkout
from tests.handlers.lambdas import Ears, context, create_table, drain, load
from tests.handlers.lending import CANARY

STREAM, TABLE, BUS = "decisions", "decisions-test", "platform-test"
Q = SystemClock().now_ms() - HOUR


@pytest.fixture(scope="module")
def module():
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        create_stream(STREAM)
        sqs, bus = boto3.client("sqs"), boto3.client("events")
        dlq, published = (
            sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("streams-dlq", "published")
        )
        bus.create_event_bus(Name=BUS)
        bus.put_rule(Name="all", EventBusName=BUS, EventPattern=json.dumps({"source": ["candor.platform"]}))
        target = {"Id": "queue", "Arn": "arn:aws:sqs:us-east-1:123456789012:published"}
        bus.put_targets(Rule="all", EventBusName=BUS, Targets=[target])
        environment = {"DECISIONS_STREAM": STREAM, "EVENT_BUS_NAME": BUS, "STREAMS_DLQ_URL": dlq}
        loaded = load("publish_decisions", monkeypatch, environment)
        loaded.published = published
        yield loaded


def made(number: int, outcome: str = "approved") -> Decision:
    body = checkout(4_000 + number, applicant={"token": f"cus_{number}"})
    record = {
        "id": f"dec_{number}", "merchant_id": "mer_1", "livemode": False, "q": Q + number, "replay_clock": False,
        "request": body, "vector": {"values": [], "states": {}, "versions": {}},
        "definition_hash": "d", "bundle": None, "policy": "p", "score": None, "cutoff": None, "outcome": outcome,
        "component": None, "rules": [], "reasons": [], "degraded": True, "regulation_profile": "none", "attempt": "a",
    }  # fmt: skip
    return parse_record(msgspec.json.encode(record))


DECISIONS = [made(1), made(2, "declined"), made(3)]


@pytest.fixture(scope="module")
def records(module):
    """Stream records of three decisions, of which the last one has expired."""
    arn = create_table(TABLE, "NEW_IMAGE")
    store = DynamoDecisionStore("none", TABLE, lambda: None)
    for it in DECISIONS:
        kept = StoredDecision(it.id, it.merchant_id, "f", to_record(it), b"{}", it.q, 1_900_000_000)
        assert store.record(kept, 1.0) is None
    boto3.client("dynamodb").delete_item(TableName=TABLE, Key={"pk": {"S": "dec_3"}})
    return records_of(arn)


@pytest.fixture
def publish(module):
    for queue in (module.DLQ_URL, module.published):
        drain(queue)
    arrived(STREAM)
    return lambda records: module.handler({"Records": records}, context("publish_decisions"))


@pytest.fixture
def published(module):
    return lambda: sorted(
        (parse_envelope(message["Body"].encode()) for message in drain(module.published)),
        key=lambda it: it.id,
    )


def without(record, **changes):
    """The stream record with another decision record inside."""
    copy = json.loads(json.dumps(record))
    copy["dynamodb"]["NewImage"] |= changes
    return copy


def test_each_decision_is_a_line_and_an_event(publish, records, published):
    assert [record["eventName"] for record in records] == ["INSERT"] * 3 + ["REMOVE"]
    assert publish(records) == {"batchItemFailures": []}
    lines = arrived(STREAM)
    assert [(line["id"], line["q"]) for line in lines] == [(it.id, it.q) for it in DECISIONS]
    assert [parse_record(msgspec.json.encode(line["record"])) for line in lines] == DECISIONS
    events = published()
    assert events == [decided(it, DEFINITIONS) for it in DECISIONS]
    assert [event.data["approved_amount"] for event in events] == [4_001, 0, 4_003]


def test_the_event_says_who_speaks_and_what_happened(module, publish, records):
    publish(records[:1])
    [message] = drain(module.published)
    envelope = json.loads(message["Body"])
    assert (envelope["source"], envelope["detail-type"]) == ("candor.platform", "checkout.decided")
    event = parse_event(json.dumps(envelope["detail"]).encode())
    DEFINITIONS.check_event(event, SystemClock().now_ms())
    assert event.entities["customer"] == "cus_1"


def test_an_old_record_is_kept_and_not_told_and_a_letter_says_so(
    module, publish, records, published, monkeypatch, capsys, caplog
):
    ears = Ears(module, monkeypatch, capsys, caplog)
    old = json.dumps({"id": "dec_2", "outcome": CANARY}).encode()
    assert publish([records[0], without(records[1], r={"B": b64encode(old).decode()})]) == {
        "batchItemFailures": []
    }
    assert [line["record"].get("outcome") for line in arrived(STREAM)] == ["approved", CANARY]
    assert [event.id for event in published()] == ["dec_1"]
    [message] = drain(module.DLQ_URL)
    assert json.loads(message["Body"])["keys"] == {"pk": {"S": "dec_2"}}
    assert message["MessageAttributes"]["code"]["StringValue"] == "unreadable_decision"
    heard = ears.heard().replace(" ", "")
    assert '"RecordsRefused":[1.0]' in heard
    assert CANARY not in heard


def test_what_is_no_decision_at_all_is_a_letter_once(module, publish, records, published):
    assert publish([without(records[0], r={"S": "no bytes"}), records[1]]) == {"batchItemFailures": []}
    assert [line["id"] for line in arrived(STREAM)] == ["dec_2"]
    assert [event.id for event in published()] == ["dec_2"]
    assert len(drain(module.DLQ_URL)) == 1


def test_an_archive_that_keeps_refusing_brings_all_back(module, publish, records, monkeypatch):
    refusing(module.FIREHOSE, monkeypatch, times=99)
    first = records[0]["dynamodb"]["SequenceNumber"]
    assert publish(records) == {"batchItemFailures": [{"itemIdentifier": first}]}


def test_a_bus_that_refuses_one_brings_back_that_one_and_what_follows(module, publish, records, monkeypatch):
    real = module.EVENTS.put_events

    def put_events(*, Entries):  # noqa: N803 - boto3's own name
        return {
            "Entries": [
                {"ErrorCode": "ThrottlingException"}
                if json.loads(entry["Detail"])["event_id"] == "dec_2"
                else real(Entries=[entry])["Entries"][0]
                for entry in Entries
            ]
        }

    monkeypatch.setattr(module.EVENTS, "put_events", put_events)
    second = records[1]["dynamodb"]["SequenceNumber"]
    assert publish(records) == {"batchItemFailures": [{"itemIdentifier": second}]}


def test_a_copy_of_a_record_is_the_same_event_again(publish, records, published):
    publish(records[:1])
    publish(records[:1])
    assert {event.id for event in published()} == {"dec_1"}
    assert [line["id"] for line in arrived(STREAM)] == ["dec_1", "dec_1"]


def test_a_vector_with_no_number_in_it_is_told_all_the_same(module, publish, records, published):
    decision = msgspec.structs.replace(made(4), vector=FeatureVector([float("nan")], {}, {}))
    raw = {"B": b64encode(to_record(decision)).decode()}
    assert publish([without(records[0], pk={"S": "dec_4"}, r=raw)]) == {"batchItemFailures": []}
    assert [event.id for event in published()] == ["dec_4"]
