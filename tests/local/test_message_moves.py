"""Tasks that move dead letters back, over SQS's API of the embedded account and on queues alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.aws.account import EmbeddedAws
from local.aws.message_moves import MessageMoves, MoveTask, TaskRunning
from local.aws.sqs import DurableQueue
from local.state import Journal, StateFolder

ARN = "arn:aws:sqs:eu-west-1:123456789012:"


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Account:
    """Two queues `source` and `other` in front of `letters`, and `lonely`, which is nobody's dead-letter queue."""

    def __init__(self, aws: EmbeddedAws) -> None:
        self.sqs = aws.client("sqs")
        self.urls = {name: aws.queue(name, {}) for name in ("letters", "lonely")}
        for name in ("source", "other"):
            policy = f'{{"deadLetterTargetArn": "{self.arn("letters")}", "maxReceiveCount": 1}}'
            self.urls[name] = aws.queue(name, {"RedrivePolicy": policy, "VisibilityTimeout": "0"})

    def arn(self, name: str) -> str:
        answer: dict[str, Any] = self.sqs.get_queue_attributes(
            QueueUrl=self.urls[name], AttributeNames=["QueueArn"]
        )
        return str(answer["Attributes"]["QueueArn"])

    def bury(self, name: str, *bodies: str) -> None:
        """Send messages and receive them once too often."""
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.urls[name], MessageBody=body)
        for _ in range(2):
            self.sqs.receive_message(QueueUrl=self.urls[name], MaxNumberOfMessages=10)

    def bodies(self, name: str) -> list[str]:
        answer = self.sqs.receive_message(
            QueueUrl=self.urls[name], MaxNumberOfMessages=10, VisibilityTimeout=30
        )
        return [message["Body"] for message in answer.get("Messages", ())]

    def tasks(self, name: str = "letters") -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = self.sqs.list_message_move_tasks(
            SourceArn=self.arn(name), MaxResults=10
        )["Results"]
        return results

    def ended(self) -> dict[str, Any]:
        until(lambda: self.tasks()[0]["Status"] != "RUNNING")
        return self.tasks()[0]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    state = StateFolder(tmp_path / "state")
    aws = EmbeddedAws(state, "eu-west-1", lambda *_: None, lambda _: False, [])  # type: ignore[arg-type,return-value]
    aws.start(lambda _: None)
    yield Account(aws)
    aws.close()
    state.close()


def test_letters_go_back_to_the_queues_they_came_from(account: Account) -> None:
    account.bury("source", "a", "b")
    account.bury("other", "c")
    assert account.tasks() == []

    handle = account.sqs.start_message_move_task(SourceArn=account.arn("letters"))["TaskHandle"]

    assert handle
    task = account.ended()
    assert (task["Status"], task["SourceArn"]) == ("COMPLETED", account.arn("letters"))
    assert task["ApproximateNumberOfMessagesMoved"] == 3
    assert task["ApproximateNumberOfMessagesToMove"] == 3
    assert "TaskHandle" not in task
    assert account.bodies("source") == ["a", "b"]
    assert account.bodies("other") == ["c"]
    assert account.bodies("letters") == []


def test_a_named_destination_also_takes_letters_that_a_function_sent(account: Account) -> None:
    account.sqs.send_message(
        QueueUrl=account.urls["letters"],
        MessageBody="refused",
        MessageAttributes={"code": {"DataType": "String", "StringValue": "unknown_type"}},
    )
    account.sqs.start_message_move_task(
        SourceArn=account.arn("letters"), DestinationArn=account.arn("source")
    )
    task = account.ended()
    assert (task["Status"], task["DestinationArn"]) == ("COMPLETED", account.arn("source"))
    assert account.bodies("source") == ["refused"]


def test_a_letter_without_a_source_queue_ends_the_task_and_stays(account: Account) -> None:
    account.sqs.send_message(QueueUrl=account.urls["letters"], MessageBody="refused")
    account.sqs.start_message_move_task(SourceArn=account.arn("letters"))
    task = account.ended()
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert account.bodies("letters") == ["refused"]


def test_what_sqs_refuses_is_refused_here(account: Account) -> None:
    sqs, errors = account.sqs, account.sqs.exceptions
    with pytest.raises(errors.ClientError, match="must be configured as a Dead Letter Queue"):
        sqs.start_message_move_task(SourceArn=account.arn("lonely"), DestinationArn=account.arn("source"))
    with pytest.raises(errors.ResourceNotFoundException):
        sqs.start_message_move_task(SourceArn=account.arn("letters") + "x")
    with pytest.raises(errors.ResourceNotFoundException):
        sqs.start_message_move_task(SourceArn=account.arn("letters"), DestinationArn=ARN + "nowhere")
    with pytest.raises(errors.ResourceNotFoundException):
        sqs.cancel_message_move_task(TaskHandle="invented")


def test_one_task_at_a_time_which_can_be_cancelled(account: Account) -> None:
    account.bury("source", "a", "b", "c")
    task = {"SourceArn": account.arn("letters"), "MaxNumberOfMessagesPerSecond": 1}
    handle = account.sqs.start_message_move_task(**task)["TaskHandle"]
    assert account.tasks()[0]["TaskHandle"] == handle
    with pytest.raises(account.sqs.exceptions.ClientError, match="already a task running"):
        account.sqs.start_message_move_task(**task)
    moved = account.sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    assert moved < 3
    ended = account.ended()
    assert ended["Status"] == "CANCELLED"
    assert len(account.bodies("letters")) == 3 - ended["ApproximateNumberOfMessagesMoved"]


# On queues alone


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def queue(journal: Journal, name: str, **settings: Any) -> DurableQueue:
    return DurableQueue(name, ARN + name, journal, **settings)


def completed(moves: MessageMoves, task: MoveTask) -> MoveTask:
    until(lambda: task.status != "RUNNING")
    moves.close()
    return task


def test_a_moved_message_begins_anew_and_is_kept(journal: Journal) -> None:
    letters = queue(journal, "letters")
    source = queue(journal, "source", max_receives=1, dead_letters=letters)
    [sent] = source.send(["poison"], {"code": {"string_value": "x"}})
    [received] = source.receive(1, visibility_s=0)
    first_id = received.id
    assert source.receive(1) == []
    letters = queue(journal, "letters")  # as after a restart: the origin is in the journal
    moves = MessageMoves({source.arn: source}.get)
    task = completed(moves, moves.start(letters, None))
    assert (task.status, task.moved) == ("COMPLETED", 1)
    for each in (source, queue(journal, "source")):
        [again] = each.receive(1, visibility_s=0)
        assert (again.body, again.attributes) == ("poison", {"code": {"string_value": "x"}})
        assert again.id != first_id
        assert again.sent_at >= sent.sent_at
    assert len(letters) == len(queue(journal, "letters")) == 0


def test_letters_that_come_back_meanwhile_are_not_moved_again(journal: Journal) -> None:
    letters, source = queue(journal, "letters"), queue(journal, "source")
    letters.send(["poison"] * 20)

    class Bouncing(DurableQueue):
        """A queue whose consumer refuses each message at once."""

        def publish(self, messages: Any) -> None:
            letters.send([message.body for message in messages])

    bouncing = Bouncing("source", source.arn, journal)
    moves = MessageMoves({source.arn: source}.get)
    task = completed(moves, moves.start(letters, bouncing))
    assert (task.status, task.moved, task.to_move) == ("COMPLETED", 20, 20)
    assert len(letters) == 20


def test_a_second_task_waits_for_the_first_and_closing_ends_it(journal: Journal) -> None:
    letters, source = queue(journal, "letters"), queue(journal, "source")
    letters.send(["a"] * 5)
    moves = MessageMoves({}.get)
    task = moves.start(letters, source, per_second=1)
    with pytest.raises(TaskRunning):
        moves.start(letters, source)
    moves.close()
    assert task.status == "CANCELLED"
    assert len(letters) + len(source) == 5


def test_a_journal_of_an_earlier_release_gets_the_column(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    queue(journal, "letters").send(["kept"])
    with journal.transaction() as db:
        db.execute("ALTER TABLE messages DROP COLUMN origin")
    journal.close()
    journal = Journal(path)
    assert [message.body for message in queue(journal, "letters").receive(1)] == ["kept"]
    journal.close()
