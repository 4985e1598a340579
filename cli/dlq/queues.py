"""Dead-letter queues of a stage, and reading their letters without removing them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
import click

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

_PAGE: Final = 10
_HIDDEN_S: Final = 60
"""Time for which a letter is hidden from other readers if this process dies while it reads."""


@dataclass(frozen=True)
class DeadLetterQueue:
    """Declaration of a queue: its name in alarms, outputs of the stacks, its runbook.

    `source`: output of the queue that letters return to; None if no queue feeds it. `by_task`: whether SQS moves its
    letters, which it does only from the dead-letter queue of another queue.
    """

    name: str
    output: str
    feeder: str
    runbook: str
    source: str | None = None
    by_task: bool = True

    @property
    def alarm(self) -> str:
        return f"{self.name}NotEmpty"


QUEUES: Final = (
    DeadLetterQueue(
        "EventsDlq", "EventsDlqUrl", "Events", "docs/runbooks/redrive-events.md", "EventsQueueUrl"
    ),
    DeadLetterQueue(
        "Undelivered",
        "UndeliveredUrl",
        "the event bus",
        "docs/runbooks/redrive-events.md#undelivered-events",
        "EventsQueueUrl",
        by_task=False,
    ),
    DeadLetterQueue(
        "StaleItemsDlq",
        "StaleItemsDlqUrl",
        "StaleItems",
        "docs/runbooks/items-that-stay-stale.md",
        "StaleItemsUrl",
    ),
    DeadLetterQueue(
        "StreamsDlq", "StreamsDlqUrl", "the tables' streams", "docs/runbooks/streams-that-lag.md"
    ),
)
"""All dead-letter queues; a test compares them with the stacks' alarms."""

QUEUE_NAME: Final = click.Choice([queue.name for queue in QUEUES], case_sensitive=False)


def queue_named(name: str) -> DeadLetterQueue:
    """Queue of a name that `QUEUE_NAME` accepted."""
    return next(queue for queue in QUEUES if queue.name == name)


def sqs_client() -> SQSClient:
    """SQS client of the stage's account."""
    return boto3.client("sqs")


def depth(sqs: SQSClient, url: str) -> tuple[int, int]:
    """Approximate numbers of messages that are visible and in flight."""
    attributes = sqs.get_queue_attributes(
        QueueUrl=url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    visible = int(attributes["ApproximateNumberOfMessages"])
    in_flight = int(attributes["ApproximateNumberOfMessagesNotVisible"])
    return visible, in_flight


def arn_of(sqs: SQSClient, url: str) -> str:
    """ARN of a queue."""
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


@contextlib.contextmanager
def received(sqs: SQSClient, url: str, most: int) -> Iterator[list[Any]]:
    """Context manager: up to `most` letters, each visible to others again at the end unless it was deleted."""
    letters: list[Any] = []
    try:
        while len(letters) < most:
            answer = sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=min(_PAGE, most - len(letters)),
                VisibilityTimeout=_HIDDEN_S,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            page = answer.get("Messages", [])
            if not page:
                break
            letters += page
        yield letters
    finally:
        _release(sqs, url, [letter["ReceiptHandle"] for letter in letters])


def _release(sqs: SQSClient, url: str, handles: Sequence[str]) -> None:
    """Make letters visible; one that was deleted meanwhile is refused in the answer, which has no effect."""
    for start in range(0, len(handles), _PAGE):
        sqs.change_message_visibility_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(handles[start : start + _PAGE])
            ],
        )


def sent_at(letter: Any) -> int:
    """Moment (ms) at which the message was first sent; a redrive policy keeps it."""
    return int(letter["Attributes"]["SentTimestamp"])
