"""The queue's worker on moto: valid events are applied once, the others are refused or retried."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from moto import mock_aws

from candor.clock import DAY, HOUR, SystemClock
from candor.store.dynamodb import DynamoFeatureStore
from lender import DEFINITIONS
from tests.builders import only_key, stored_values
from tests.handlers.lambdas import Ears, context, create_table, drain, load
from tests.handlers.lending import BAD_EVENTS, CANARY, ago, canary_payment, envelope, payment

TABLE, SYNCHRONOUS = "features-test", "synchronous-test"
STORE = DynamoFeatureStore(TABLE)
FAILURES = next(view for view in DEFINITIONS.views if view.name == "customer_failures")
TRUST = next(view for view in DEFINITIONS.views if view.name == "merchant_trust")


@pytest.fixture(scope="module")
def module():
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        create_table(TABLE)
        create_table(SYNCHRONOUS)
        events, queue, stale = (
            boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"]
            for name in ("events", "dlq", "stale")
        )
        environment = {
            "FEATURES_TABLE": TABLE,
            "SYNCHRONOUS_TABLE": SYNCHRONOUS,
            "EVENTS_QUEUE_URL": events,
            "EVENTS_DLQ_URL": queue,
            "STALE_ITEMS_URL": stale,
            "REDELIVERY_HORIZON_DAYS": "19",
        }
        yield load("update_features", monkeypatch, environment)


@pytest.fixture
def deliver(module):
    """Hand bodies to the worker as messages m0, m1 …; returns the ids to redeliver."""
    drain(module.DLQ_URL)

    def call(*bodies: str) -> list[str]:
        records = [{"messageId": f"m{place}", "body": body} for place, body in enumerate(bodies)]
        answer = module.handler({"Records": records}, context("update_features"))
        assert answer.keys() == {"batchItemFailures"}
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return call


@pytest.fixture
def dead(module):
    return lambda: drain(module.DLQ_URL)


def count(customer: str) -> float:
    """Failed payments of the last 30 days, as the scorer would read them."""
    return values(FAILURES, customer)["customer_failures.count.30d"]


def values(view, token: str) -> dict[str, float]:
    numbers = stored_values(STORE, view, token, SystemClock().now_ms())
    return dict(zip((feature.name for feature in view.features), numbers, strict=True))


def test_events_reach_every_view_that_they_concern(deliver, dead):
    refund = payment("r1", "cus_a", type="refund.created")
    refund["entities"] = {"customer": "cus_a", "merchant": "mer_a"}
    assert deliver(envelope(payment("p1", "cus_a")), envelope(payment("p2", "cus_b")), envelope(refund)) == []
    assert (count("cus_a"), count("cus_b")) == (1.0, 1.0)
    assert values(TRUST, "mer_a")["merchant_trust.refunds.30d"] == 1.0
    assert dead() == []


@pytest.mark.parametrize("hot", [False, True], ids=["ring", "markers"])
def test_duplicates_count_once_in_a_batch_and_across_batches(deliver, dead, hot):
    token = f"dup_{hot}"
    event = payment(f"dup_{hot}", token, type="refund.created" if hot else "payment.failed")
    event["entities"] = {"customer": token, "merchant": token}
    body = envelope(event)
    assert deliver(body, body, envelope(event)) == []
    assert deliver(body) == []
    counted = values(TRUST, token)["merchant_trust.refunds.30d"] if hot else count(token)
    assert counted == 1.0
    assert dead() == []


@pytest.mark.parametrize(("bad", "code"), BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_what_can_never_be_applied_goes_to_the_dlq_and_its_neighbours_are_applied(
    deliver, dead, request, bad, code
):
    customer = f"cus_{request.node.callspec.id}"
    around = [envelope(payment(f"{customer}_{n}", customer)) for n in range(2)]
    body = envelope(bad)
    assert deliver(around[0], body, around[1]) == []
    assert count(customer) == 2.0
    (message,) = dead()
    assert message["Body"] == body
    attributes = {name: attribute["StringValue"] for name, attribute in message["MessageAttributes"].items()}
    assert attributes.keys() == {"code", "detail", "field"}
    assert attributes["code"] == code
    assert all(attributes.values())


@pytest.mark.parametrize("body", ["", "no JSON", "[]", "{}", '{"detail":', '{"detail":' + "[" * 5_000])
def test_what_is_no_envelope_goes_to_the_dlq_as_it_came(deliver, dead, request, body):
    customer = f"cus_{request.node.callspec.id[:20]}"
    sent = body or " "
    assert deliver(sent, envelope(payment(f"e_{customer}", customer))) == []
    assert count(customer) == 1.0
    assert [message["Body"] for message in dead()] == [sent]


def test_a_redriven_message_is_applied_after_the_fix(deliver, dead):
    early = payment("evt_early", "cus_redrive", occurred_at=ago(-3_600_000))
    assert deliver(envelope(early)) == []
    (message,) = dead()
    mended = json.loads(message["Body"])
    mended["detail"]["occurred_at"] = ago(1_000)
    assert deliver(json.dumps(mended)) == []
    assert deliver(json.dumps(mended)) == []
    assert count("cus_redrive") == 1.0


def test_an_early_event_goes_back_to_the_queue_until_its_moment(module, deliver, dead, monkeypatch):
    sent = []
    monkeypatch.setattr(module.SQS, "send_message", lambda **message: sent.append(message))
    body = envelope(payment("evt_ahead", "cus_ahead", occurred_at=ago(-90_000)))
    assert deliver(body, envelope(payment("evt_now", "cus_ahead", occurred_at=ago(0)))) == []
    [message] = sent
    assert (message["QueueUrl"], message["MessageBody"]) == (module.QUEUE_URL, body)
    assert 80 <= message["DelaySeconds"] <= 90
    assert count("cus_ahead") <= 1.0


def test_a_store_that_is_away_asks_for_the_messages_again_and_loses_none(module, deliver, dead, monkeypatch):
    bodies = [
        envelope(payment("away_1", "cus_away")),
        "no JSON",
        envelope(payment("away_2", "cus_away", type="refund.created", entities={"merchant": "mer_away"})),
    ]
    with monkeypatch.context() as away:
        away.setattr(module, "STORE", DynamoFeatureStore("gone"))
        assert deliver(*bodies) == ["m0", "m2"]
    assert [message["Body"] for message in dead()] == ["no JSON"]
    assert deliver(bodies[0], bodies[2]) == []
    assert count("cus_away") == 1.0
    assert values(TRUST, "mer_away")["merchant_trust.refunds.30d"] == 1.0


def test_a_corrupt_item_holds_up_its_own_events_only(deliver, dead):
    key = only_key(FAILURES, "cus_corrupt")
    item = {"pk": {"S": key}, "b": {"B": b"\x00garbage\x00"}, "vb": {"N": "1"}, "vn": {"N": "1"}}
    boto3.client("dynamodb").put_item(TableName=TABLE, Item=item)
    bodies = [envelope(payment("corrupt_1", "cus_corrupt")), envelope(payment("whole_1", "cus_whole"))]
    assert deliver(*bodies) == ["m0"]
    assert count("cus_whole") == 1.0
    assert dead() == []


def test_items_carry_their_events_and_an_expiry_of_wall_clock(deliver):
    deliver(envelope(payment("evt_item", "cus_item", occurred_at="2026-01-01T00:00:00Z")))
    key = only_key(FAILURES, "cus_item")
    item = boto3.client("dynamodb").get_item(TableName=TABLE, Key={"pk": {"S": key}})["Item"]
    assert item["ids"]["B"] == b'["evt_item"]'
    left_days = (int(item["ttl"]["N"]) - SystemClock().now_ms() // 1_000) / 86_400
    assert 819 < left_days <= 820, "two years, and 90 days for what comes late"


REPAYMENTS = next(view for view in DEFINITIONS.views if view.name == "customer_repayments")


def repayment(number: int, customer: str, **changes: Any) -> dict[str, Any]:
    data = {"loan_id": "l1", "amount": 100, "currency": "USD", "days_late": number}
    at = ago(60 * DAY - number * HOUR)
    return payment(
        f"{customer}_{number}", customer, type="payment.succeeded", occurred_at=at, data=data, **changes
    )


def test_an_item_that_goes_stale_is_queued_to_be_healed(module, deliver, monkeypatch):
    before = SystemClock().now_ms()
    payments = [repayment(number, "cus_stale") for number in range(80)]
    assert deliver(*map(envelope, payments)) == []
    void = envelope(payments[5] | {"voided_at": ago(DAY)})
    with monkeypatch.context() as away:
        away.setattr(module.STALE_ITEMS, "_send_message_batch", _refusing)
        assert deliver(envelope(payment("other", "cus_other")), void) == ["m0", "m1"]
    assert drain(module.STALE_ITEMS._url) == []
    payments = [repayment(number, "cus_void") for number in range(80)]
    deliver(*map(envelope, payments))
    void = envelope(payments[5] | {"voided_at": ago(DAY)})
    assert deliver(void, void) == []
    assert deliver(void) == []
    items = [json.loads(message["Body"]) for message in drain(module.STALE_ITEMS._url)]
    assert [item["key"] for item in items] == [only_key(REPAYMENTS, "cus_void")] * 2, (
        "a redelivery says it again"
    )
    assert all(before <= item["since"] <= SystemClock().now_ms() for item in items)


def _refusing(*, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's own names
    return {"Failed": [{"Id": entry["Id"], "Code": "Throttled"} for entry in Entries]}


def test_nothing_of_an_event_is_logged(module, deliver, dead, monkeypatch, capsys, caplog):
    ears = Ears(module, monkeypatch, capsys, caplog)
    bad = [envelope(event) for event, _ in BAD_EVENTS.values()]
    deliver(envelope(canary_payment()), *bad, CANARY)
    monkeypatch.setattr(module, "STORE", DynamoFeatureStore("gone"))
    assert deliver(envelope(canary_payment(event_id=f"{CANARY}2"))) == ["m0"]
    heard = ears.heard()
    assert heard.count('"refused"') >= len(bad)
    assert '"failed"' in heard
    assert '"EventsRefused"' in heard
    assert CANARY not in heard
