"""`candor dlq` on the embedded account, with letters as functions and the bus leave them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cli.dlq import redrive
from cli.dlq.list import duration_text
from cli.dlq.queues import QUEUES
from local.aws.account import EmbeddedAws
from local.state import StateFolder
from tests.cli.deployed import called

CANARY = "tok_canary_4711"
ROOT = Path(__file__).resolve().parents[3]
OUTPUTS = {
    "EventsQueueUrl": "events",
    "EventsDlqUrl": "events-dlq",
    "UndeliveredUrl": "undelivered",
    "StaleItemsUrl": "stale",
    "StaleItemsDlqUrl": "stale-dlq",
    "StreamsDlqUrl": "streams-dlq",
}
BODY = json.dumps(
    {"detail": {"type": "payment.due", "event_id": CANARY, "entities": {"customer": CANARY}, "data": CANARY}}
)
REFUSED = {"code": "missing_field", "detail": "The field is required.", "field": "data.amount"}


class Stage:
    """Queues of a stage, and the client that services would use."""

    def __init__(self, aws: EmbeddedAws) -> None:
        self.sqs = boto3.client("sqs")
        self.urls: dict[str, str] = {}
        for name in reversed(OUTPUTS.values()):
            attributes = {}
            if name in ("events", "stale"):
                policy = {"deadLetterTargetArn": self.arn(f"{name}-dlq"), "maxReceiveCount": 1}
                attributes = {"RedrivePolicy": json.dumps(policy)}
            self.urls[name] = aws.queue(name, attributes)
        aws.stacks["candor-dev-ingestion"] = {output: self.urls[name] for output, name in OUTPUTS.items()}

    def arn(self, name: str) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.urls[name], AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]

    def send(self, name: str, body: str = BODY, **attributes: str) -> str:
        values = {key: {"DataType": "String", "StringValue": text} for key, text in attributes.items()}
        answer = self.sqs.send_message(QueueUrl=self.urls[name], MessageBody=body, MessageAttributes=values)
        return answer["MessageId"]

    def bodies(self, name: str) -> list[str]:
        answer = self.sqs.receive_message(QueueUrl=self.urls[name], MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", ())]


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Iterator[Stage]:
    state = StateFolder(tmp_path / "state")
    aws = EmbeddedAws(state, "eu-west-1", lambda *_: None, lambda _: False, [])
    aws.start(lambda _: None)
    for name, value in aws.endpoints.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(redrive, "POLL_S", 0.01)
    yield Stage(aws)
    aws.close()
    state.close()


def output(*words: str) -> Any:
    result = called("dlq", *words, "--json")
    assert result.exit_code == 0, result.output
    assert CANARY not in result.output
    return json.loads(result.stdout)


def test_the_list_has_every_queue_with_number_age_source_and_runbook(stage):
    stage.send("events-dlq", **REFUSED)
    stage.send("events-dlq")
    time.sleep(1.1)
    rows = {row["queue"]: row for row in output("list")["queues"]}
    assert {name: row["letters"] for name, row in rows.items()} == {
        "EventsDlq": 2,
        "Undelivered": 0,
        "StaleItemsDlq": 0,
        "StreamsDlq": 0,
    }
    assert rows["EventsDlq"]["oldest_age_s"] in range(1, 30)
    assert rows["StreamsDlq"]["oldest_age_s"] is None
    assert rows["EventsDlq"]["alarm"] == "EventsDlqNotEmpty"
    assert len(stage.bodies("events-dlq")) == 2, "they are visible again"
    table = called("dlq", "list").stdout
    assert "redrive-events" in table
    assert CANARY not in table


def test_letters_are_shown_with_their_cause_and_stay(stage):
    refused, spent = stage.send("events-dlq", **REFUSED), stage.send("events-dlq", "no JSON: " + CANARY)
    letters = {letter["message_id"]: letter for letter in output("show", "EventsDlq")["letters"]}
    assert set(letters) == {refused, spent}
    assert REFUSED.items() <= letters[refused].items()
    assert letters[refused]["event_type"] == "payment.due"
    assert letters[spent]["code"] is letters[spent]["event_type"] is None
    assert len(output("show", "eventsdlq", "--limit", "1")["letters"]) == 1
    shown = called("dlq", "show", "EventsDlq")
    assert CANARY not in shown.output
    assert "missing_field" in shown.stdout
    assert len(stage.bodies("events-dlq")) == 2


def test_messages_are_printed_on_request_alone(stage):
    stage.send("events-dlq", **REFUSED)
    assert CANARY in called("dlq", "show", "EventsDlq", "--with-data").stdout
    printed = json.loads(called("dlq", "show", "EventsDlq", "--with-data", "--json").stdout)
    assert printed["letters"][0]["message"] == BODY
    assert "no letter" in called("dlq", "show", "StreamsDlq").stdout


def test_letters_of_functions_and_of_redrive_policies_go_back(stage):
    stage.send("events-dlq", **REFUSED)
    stage.send("events")
    for _ in range(2):
        stage.sqs.receive_message(QueueUrl=stage.urls["events"], VisibilityTimeout=0)
    assert output("redrive", "EventsDlq") == {
        "queue": "EventsDlq",
        "moved": 2,
        "left": 0,
        "destination": stage.urls["events"],
    }
    assert stage.bodies("events") == [BODY, BODY]
    assert "moved 0 letters of EventsDlq; 0 are left" in called("dlq", "redrive", "EventsDlq").stdout


def test_undelivered_events_of_the_queues_rule_go_to_the_queue_and_others_stay(stage):
    stage.send("undelivered", TARGET_ARN=stage.arn("events"), ERROR_CODE="NO_PERMISSIONS")
    stage.send("undelivered", TARGET_ARN="arn:aws:firehose:eu-west-1:123456789012:deliverystream/archive")
    [first, _] = output("show", "Undelivered")["letters"]
    assert (first["code"], first["target"]) == ("NO_PERMISSIONS", stage.arn("events"))
    done = output("redrive", "Undelivered")
    assert (done["moved"], done["left"]) == (1, 1)
    assert stage.bodies("events") == [BODY]


def _with_a_slow_task(stage: Stage) -> None:
    stage.send("events-dlq")
    stage.send("events-dlq")
    stage.sqs.start_message_move_task(
        SourceArn=stage.arn("events-dlq"),
        DestinationArn=stage.arn("events"),
        MaxNumberOfMessagesPerSecond=1,
    )


def _nothing(stage: Stage) -> None:
    stage.send("streams-dlq")


@pytest.mark.parametrize(
    ("queue", "prepare", "text"),
    [
        ("StreamsDlq", _nothing, "no queue takes them: read docs/runbooks/streams-that-lag.md"),
        ("EventsDlq", _with_a_slow_task, "already running: wait until `candor dlq list`"),
    ],
)
def test_what_cannot_be_redriven_is_one_line_with_the_remedy(
    stage, queue, prepare: Callable[[Stage], None], text
):
    prepare(stage)
    result = called("dlq", "redrive", queue)
    assert result.exit_code == 1
    assert text in result.stderr
    assert result.stderr.startswith("Error: ")


def test_a_task_that_is_cancelled_says_how_far_it_came(stage, monkeypatch):
    for _ in range(3):
        stage.send("events-dlq")
    listed = redrive.sqs_client

    def cancelling() -> Any:
        client = listed()
        start = client.start_message_move_task

        def started(**settings: Any) -> Any:
            task = start(**settings)
            client.cancel_message_move_task(TaskHandle=task["TaskHandle"])
            return task

        client.start_message_move_task = started
        return client

    monkeypatch.setattr(redrive, "sqs_client", cancelling)
    result = called("dlq", "redrive", "EventsDlq", "--rate", "1")
    assert result.exit_code == 1
    assert "then stopped (cancelled)" in result.stderr


def test_an_unknown_queue_is_wrong_usage(stage):
    assert called("dlq", "show", "Nothing").exit_code == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (720, "12 min"), (18_000, "5 h"), (259_200, "3 d")]
)
def test_durations_have_units(seconds, text):
    assert duration_text(seconds) == text


def test_every_runbook_exists_and_names_the_alarm():
    for queue in QUEUES:
        path, _, anchor = queue.runbook.partition("#")
        text = (ROOT / path).read_text("utf-8")
        assert queue.alarm in text
        assert not anchor or f"## {anchor.replace('-', ' ').capitalize()}" in text
