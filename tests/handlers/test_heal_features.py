"""End to end: the updater makes an item stale, the worker heals it from the archive, the offline engine agrees."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from candor.clock import DAY, HOUR, SystemClock, parse_rfc3339
from candor.contracts import parse_envelope
from candor.features.state import ViewState
from candor.store.dynamodb import DynamoFeatureStore
from history.index.bucket import ArchiveBucket
from history.index.kinds import KINDS
from history.index.refresh import refresh
from history.rebuild.verification import Verified, verify
from lender import DEFINITIONS
from tests.builders import only_key
from tests.cli.deployed import Deployed
from tests.handlers.lambdas import Ears, context, drain, load
from tests.handlers.lending import CANARY, ago, envelope, payment

REPAYMENTS = next(view for view in DEFINITIONS.views if view.name == "customer_repayments")
DELIVERED_LATER = parse_rfc3339("2026-11-25T00:00:00Z")
"""Past the hour into which the stage's archive delivers."""

COMMON = {
    "FEATURES_TABLE": "features",
    "SYNCHRONOUS_TABLE": "synchronous",
    "REDELIVERY_HORIZON_DAYS": "20",
}


class Functions:
    """The updater and the worker of a stage, their queues, and what the archive gets of both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage = Deployed()
        sqs = boto3.client("sqs")
        self.stale, dlq = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("stale", "dlq"))
        queues = {"STALE_ITEMS_URL": self.stale, "EVENTS_DLQ_URL": dlq, "EVENTS_QUEUE_URL": dlq}
        self.updater = load("update_features", monkeypatch, COMMON | queues)
        waits = {"ARCHIVE_BUCKET": "archive", "ARCHIVE_LAG_S": "0", "RETRY_S": "0"}
        self.healer = load("heal_features", monkeypatch, COMMON | queues | waits)

    def happen(self, *bodies: str) -> None:
        """The bus archives events and the updater applies them."""
        self.stage.archive_events([parse_envelope(body.encode()) for body in bodies])
        records = [{"messageId": f"m{place}", "body": body} for place, body in enumerate(bodies)]
        assert self.updater.handler({"Records": records}, context("update_features")) == {
            "batchItemFailures": []
        }

    def heal(self, *bodies: str) -> list[str]:
        """The worker takes these messages, or all that its queue has; returns the ids to redeliver."""
        taken = bodies or [message["Body"] for message in drain(self.stale)]
        records = [{"messageId": f"m{place}", "body": body} for place, body in enumerate(taken)]
        answer = self.healer.handler({"Records": records}, context("heal_features"))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def heal_to_the_end(self) -> int:
        """Passes until no message is left, while the streams deliver."""
        for number in range(1, 9):
            self.stage.deliver()
            assert self.heal() == []
            if not drain_count(self.stale):
                return number
        raise AssertionError("messages are left")


def drain_count(queue: str) -> int:
    wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
    attributes = boto3.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=wanted)["Attributes"]
    return sum(map(int, attributes.values()))


@pytest.fixture
def functions(monkeypatch):
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # another module's session may know another endpoint
    with mock_aws():
        yield Functions(monkeypatch)


def repayment(number: int, customer: str) -> dict[str, Any]:
    data = {"loan_id": "l1", "amount": 100, "currency": "USD", "days_late": 900 if number == 5 else number}
    at = ago(60 * DAY - number * HOUR)
    return payment(f"{customer}_{number}", customer, type="payment.succeeded", occurred_at=at, data=data)


def made_stale(functions: Functions, customer: str = "cus_1") -> list[str]:
    """Eighty payments of which the one with the most days late, folded long ago, is voided."""
    payments = [repayment(number, customer) for number in range(80)]
    bodies = [envelope(each) for each in payments]
    void = envelope(payments[5] | {"voided_at": ago(DAY)})
    functions.happen(*bodies)
    functions.happen(void)
    assert state(customer).stale
    return [*bodies, void]


def state(customer: str = "cus_1") -> ViewState:
    key = only_key(REPAYMENTS, customer)
    return ViewState.decode(REPAYMENTS, DynamoFeatureStore("features").load([key])[key].blob)


def assert_exact(bodies: list[str], *customers: str) -> None:
    events = [parse_envelope(body.encode()) for body in bodies]
    store, now = DynamoFeatureStore("features"), SystemClock().now_ms()
    verification = verify(DEFINITIONS, REPAYMENTS, events, customers or ["cus_1"], store, now)
    assert verification == Verified(len(customers) or 1, [], 0)
    assert not any(state(customer).stale for customer in customers or ["cus_1"])


@pytest.mark.parametrize("indexed", [False, True], ids=["archive", "index"])
def test_an_item_that_went_stale_is_healed_and_equals_the_offline_engine(functions, indexed):
    bodies = [body for customer in ("cus_1", "cus_2") for body in made_stale(functions, customer)]
    assert functions.heal() == [], "their healing begins"
    functions.stage.deliver()
    if indexed:
        archive = ArchiveBucket(boto3.client("s3"), "archive")
        for kind in KINDS:
            assert refresh(archive, kind, DELIVERED_LATER).written == 1
    functions.heal_to_the_end()
    assert_exact(bodies, "cus_1", "cus_2")
    later = envelope(repayment(81, "cus_1"))
    functions.happen(later)
    assert_exact([*bodies, later], "cus_1", "cus_2")


def test_while_the_archive_lags_the_message_comes_again(functions):
    bodies = made_stale(functions)
    assert functions.heal() == []
    assert functions.heal() == []
    assert state().stale
    functions.heal_to_the_end()
    assert_exact(bodies)


def test_after_two_hours_it_is_left_to_the_dead_letters_and_can_be_redriven(functions):
    bodies = made_stale(functions)
    assert functions.heal() == [], "its healing begins"
    [message] = drain(functions.stale)
    old = json.dumps(json.loads(message["Body"]) | {"since": SystemClock().now_ms() - 2 * HOUR - 1})
    assert functions.heal(old, "no message") == ["m1", "m0"]
    assert drain_count(functions.stale) == 0
    functions.stage.deliver()
    assert functions.heal(old) == []
    functions.heal_to_the_end()
    assert_exact(bodies)


def test_it_counts_what_it_does_and_says_nothing_of_whom(functions, monkeypatch, capsys, caplog):
    made_stale(functions, CANARY)
    functions.heal()
    [message] = drain(functions.stale)
    ears = Ears(functions.healer, monkeypatch, capsys, caplog)
    old = json.dumps(json.loads(message["Body"]) | {"since": 0})
    assert functions.heal(old, CANARY) == ["m1", "m0"]
    heard = ears.heard()
    assert '"not healed"' in heard
    assert '"ItemsNotHealed":[2.0]' in heard.replace(" ", "")
    assert '"StaleSeconds"' in heard
    functions.stage.deliver()
    functions.heal(message["Body"])
    functions.heal_to_the_end()
    heard += ears.heard()
    assert '"HealingSeconds"' in heard
    assert '"ItemsHealed":[1.0]' in heard.replace(" ", "")
    assert '"stage":"test"' in heard
    assert CANARY not in heard


def test_the_index_is_brought_up_to_date_while_there_is_time(functions, monkeypatch):
    made_stale(functions)
    functions.stage.deliver()
    module = load("index_archive", monkeypatch, {"ARCHIVE_BUCKET": "archive", "OBJECT_SECONDS": "420"})
    monkeypatch.setattr(module, "CLOCK", SimpleNamespace(now_ms=lambda: DELIVERED_LATER))

    def index(left_ms: int, **event: bool) -> dict[str, Any]:
        given = context("index_archive")
        given.get_remaining_time_in_millis = lambda: left_ms
        return module.handler(event, given)

    for result in index(420_000).values():
        assert (result["written"], result["finished"]) == (0, False)
        assert result["behind"] > 0
    for result in index(420_001).values():
        assert (result["written"], result["kept"], result["finished"], result["behind"]) == (1, 0, True, 0)
    for result in index(420_001, whole=True).values():
        assert (result["written"], result["kept"], result["finished"]) == (0, 1, True)
