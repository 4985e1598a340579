"""POST /v1/events on moto's bus: accepted events arrive, refused requests have no effect."""

from __future__ import annotations

import base64
import json

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from candor.contracts import MAX_BODY_BYTES
from tests.handlers.lambdas import Ears, context, drain, load, problem, proxied
from tests.handlers.lending import BAD_EVENTS, CANARY, canary_payment, payment

BUS = "lender-test"


@pytest.fixture(scope="module")
def module():
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        queue = boto3.client("sqs").create_queue(QueueName="events")["QueueUrl"]
        arn = "arn:aws:sqs:us-east-1:123456789012:events"
        bus = boto3.client("events")
        bus.create_event_bus(Name=BUS)
        bus.put_rule(Name="all", EventBusName=BUS, EventPattern=json.dumps({"source": ["candor.lender"]}))
        bus.put_targets(Rule="all", EventBusName=BUS, Targets=[{"Id": "queue", "Arn": arn}])
        loaded = load("publish_events", monkeypatch, {"EVENT_BUS_NAME": BUS})
        loaded.test_queue = queue
        yield loaded


@pytest.fixture
def publish(module):
    drain(module.test_queue)
    return lambda events, **event: module.handler(
        proxied(events if isinstance(events, str) else {"events": events}) | event, context("publish_events")
    )


@pytest.fixture
def arrived(module):
    return lambda: [json.loads(message["Body"]) for message in drain(module.test_queue)]


def test_accepted_events_arrive_as_they_were_sent(publish, arrived):
    events = [payment(f"evt_{n}", data={"loan_id": "é", "amount": n, "currency": "USD"}) for n in range(23)]
    answer = publish(events)
    assert (answer["statusCode"], json.loads(answer["body"])) == (202, {"accepted": 23})
    assert answer["headers"]["Content-Type"] == "application/json"
    events_received = arrived()
    assert (
        sorted((received["detail"] for received in events_received), key=lambda e: e["data"]["amount"])
        == events
    )
    assert {(received["source"], received["detail-type"]) for received in events_received} == {
        ("candor.lender", "payment.failed")
    }


def test_a_hundred_pass_and_a_hundred_and_one_do_not(publish, arrived):
    assert publish([payment(f"evt_{n}") for n in range(100)])["statusCode"] == 202
    assert len(arrived()) == 100
    assert problem(publish([payment(f"evt_{n}") for n in range(101)])) == (422, "invalid_field", "events")
    assert problem(publish([])) == (422, "invalid_field", "events")
    assert arrived() == []


@pytest.mark.parametrize(("bad", "code"), BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_one_bad_event_refuses_all_and_is_named(publish, arrived, bad, code):
    status, problem_code, field = problem(publish([payment("evt_1"), bad, payment("evt_3")]))
    assert (status, problem_code) == (422, code)
    assert field.startswith("events[1]")
    assert arrived() == []


@pytest.mark.parametrize("body", ["", "no JSON", "[]", '{"events": 7}', '{"events": [', "null"])
def test_what_is_no_list_of_events_is_malformed(publish, arrived, body):
    assert problem(publish(body)) == (400, "malformed_json", None)
    assert arrived() == []


def test_bytes_that_are_not_utf_8_are_malformed(publish):
    raw = base64.b64encode(b'{"events":[{"event_id":"\xff"}]}').decode()
    assert problem(publish(raw, isBase64Encoded=True))[:2] == (400, "malformed_json")


def test_a_body_of_another_type_is_415_and_none_is_read_as_json(publish, arrived):
    events = [payment("evt_1")]
    for sent in ("text/plain", "application/x-www-form-urlencoded"):
        refused = publish(events, headers={"content-type": sent})
        assert problem(refused) == (415, "unsupported_media_type", "Content-Type")
        assert arrived() == []
    for headers in ({}, {"content-type": "application/json; charset=utf-8"}):
        assert publish(events, headers=headers)["statusCode"] == 202


def test_every_fault_of_every_event_is_in_one_problem(publish, arrived):
    data = {"loan_id": "loan_1", "amount": 1.5, "currency": "usd"}
    answer = json.loads(publish([payment("evt_1"), payment("evt_2", data=data), CANARY])["body"])
    assert [(fault["code"], fault["field"]) for fault in answer["errors"]] == [
        ("invalid_field", "events[1].data.amount"),
        ("unknown_currency", "events[1].data.currency"),
        ("invalid_field", "events[2]"),
    ]
    assert (answer["code"], answer["field"]) == ("invalid_field", "events[1].data.amount")
    assert arrived() == []


def test_64_kilobytes_are_the_limit(publish):
    def sent(length: int) -> str:
        text = json.dumps({"events": [payment("evt_1", data=payment("x")["data"] | {"note": ""})]})
        return text.replace('"note": ""', f'"note": "{"x" * (length - len(text))}"')

    assert publish(sent(MAX_BODY_BYTES))["statusCode"] == 202
    assert problem(publish(sent(MAX_BODY_BYTES + 1))) == (413, "body_too_large", None)


def failing(module, monkeypatch, times: int) -> list[int]:
    """Make the bus fail the second entry of a number of calls; returns the sizes of the calls."""
    real, sizes = module.EVENTS.put_events, []

    def put_events(*, Entries):  # noqa: N803 - boto3's own name
        sizes.append(len(Entries))
        if len(sizes) > times:
            return real(Entries=Entries)
        place = min(1, len(Entries) - 1)
        kept = [entry for number, entry in enumerate(Entries) if number != place]
        answers = real(Entries=kept)["Entries"] if kept else []
        return {"Entries": [*answers[:place], {"ErrorCode": "ThrottlingException"}, *answers[place:]]}

    monkeypatch.setattr(module.EVENTS, "put_events", put_events)
    return sizes


def test_entries_that_the_bus_failed_are_sent_again_alone(module, publish, arrived, monkeypatch):
    sizes = failing(module, monkeypatch, times=2)
    assert publish([payment(f"evt_{n}") for n in range(12)])["statusCode"] == 202
    assert sizes == [10, 1, 1, 2]
    assert sorted(received["detail"]["event_id"] for received in arrived()) == sorted(
        f"evt_{n}" for n in range(12)
    )


def test_a_bus_that_keeps_failing_is_503_and_safe_to_repeat(module, publish, monkeypatch):
    failing(module, monkeypatch, times=99)
    answer = publish([payment("evt_1"), payment("evt_2")])
    assert problem(answer) == (503, "unavailable", None)
    assert answer["headers"]["Retry-After"] == "1"


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://events.example"),
        ClientError({"Error": {"Code": "InternalFailure", "Message": "?"}}, "PutEvents"),
    ],
)
def test_a_bus_that_is_away_is_503(module, publish, monkeypatch, error):
    def away(**_):
        raise error

    monkeypatch.setattr(module.EVENTS, "put_events", away)
    assert problem(publish([payment("evt_1")])) == (503, "unavailable", None)


def metrics(heard: str) -> dict[str, list[float]]:
    lines = [json.loads(line) for line in heard.splitlines() if '"_aws"' in line]
    return {
        metric["Name"]: line[metric["Name"]]
        for line in lines
        for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    }


def test_every_request_is_counted(module, publish, monkeypatch, capsys, caplog):
    ears = Ears(module, monkeypatch, capsys, caplog)
    publish([payment("evt_1"), payment("evt_2")])
    assert metrics(ears.heard()) == {"EventsAccepted": [2.0]}
    publish("no JSON")
    assert metrics(ears.heard()) == {"RequestsRefused": [1.0]}
    failing(module, monkeypatch, times=99)
    publish([payment("evt_1")])
    assert metrics(ears.heard()) == {"RequestsFailed": [1.0]}


def test_nothing_that_a_caller_sends_is_logged(module, publish, monkeypatch, capsys, caplog):
    ears = Ears(module, monkeypatch, capsys, caplog)
    headers = {"Authorization": CANARY, "Idempotency-Key": CANARY}
    assert publish([canary_payment()], headers=headers)["statusCode"] == 202
    for bad, _ in BAD_EVENTS.values():
        publish([bad], headers=headers)
    publish(CANARY)
    failing(module, monkeypatch, times=99)
    publish([canary_payment()])
    heard = ears.heard()
    assert heard.count("refused") >= len(BAD_EVENTS)
    assert "not published" in heard
    assert CANARY not in heard
