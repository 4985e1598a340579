"""`candor dlq redrive`: send letters back to the queue they came from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click
from botocore.exceptions import ClientError

from cli.dlq.queues import QUEUE_NAME, arn_of, depth, queue_named, received, sqs_client
from cli.options import common
from cli.output import print_json
from cli.progress import Progress
from cli.stage import Stage

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

POLL_S: Final = 0.5


@click.command("redrive")
@click.argument("queue", type=QUEUE_NAME, metavar="QUEUE")
@click.option(
    "--rate",
    type=click.IntRange(1, 500),
    default=50,
    show_default=True,
    help="Most messages per second; of Undelivered as fast as they can be sent.",
)
@common
def redrive_command(queue: str, rate: int, stage: Stage, *, as_json: bool) -> None:
    """Move the letters of QUEUE to the queue in front of it, and wait until they are there.

    QUEUE is EventsDlq, Undelivered or StaleItemsDlq. Mend the cause first: `candor dlq show` prints it. Redriving
    twice is safe, because an event counts once by its id. Ctrl-C ends the waiting; SQS goes on.
    """
    declared = queue_named(queue)
    if declared.source is None:
        raise click.ClickException(
            f"letters of {queue} name records of a stream, and no queue takes them: read {declared.runbook}"
        )
    sqs = sqs_client()
    source, target = stage.output(declared.output), stage.output(declared.source)
    visible, _ = depth(sqs, source)
    moved = 0
    if visible:
        with Progress() as progress:
            if declared.by_task:
                moved = _by_task(sqs, source, target, rate, progress)
            else:
                moved = _by_hand(sqs, source, target, visible, progress)
    left = sum(depth(sqs, source))
    if as_json:
        print_json({"queue": queue, "moved": moved, "left": left, "destination": target})
        return
    click.echo(f"moved {moved} letters of {queue}; {left} are left")


def _by_task(sqs: SQSClient, source: str, target: str, rate: int, progress: Progress) -> int:
    """Let SQS move the letters; returns how many it moved. Raises ClickException if it fails."""
    source_arn = arn_of(sqs, source)
    try:
        # Named, because a function sent some of the letters, and SQS does not know the source of those.
        sqs.start_message_move_task(
            SourceArn=source_arn,
            DestinationArn=arn_of(sqs, target),
            MaxNumberOfMessagesPerSecond=rate,
        )
    except ClientError as error:
        if error.response["Error"]["Code"].endswith("UnsupportedOperation"):
            raise click.ClickException(
                "a redrive of this queue is already running: wait until `candor dlq list` shows that it is empty"
            ) from error
        raise
    while True:
        task: Any = sqs.list_message_move_tasks(SourceArn=source_arn, MaxResults=1)["Results"][0]
        moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
        progress.update("letters", moved, task.get("ApproximateNumberOfMessagesToMove"))
        if task["Status"] == "COMPLETED":
            return moved
        if task["Status"] != "RUNNING":
            reason = task.get("FailureReason") or task["Status"].lower()
            raise click.ClickException(
                f"SQS moved {moved} letters and then stopped ({reason}); the others are still in the queue: redrive again"
            )
        time.sleep(POLL_S)


def _by_hand(sqs: SQSClient, source: str, target: str, most: int, progress: Progress) -> int:
    """Move letters that the bus could not deliver to this target, which SQS's task refuses; returns how many.

    A letter is deleted once it is sent. Between the two a crash leaves it in both queues, and it counts once.
    """
    target_arn, moved = arn_of(sqs, target), 0
    with received(sqs, source, most) as letters:
        due = [letter for letter in letters if _target(letter) == target_arn]
        for letter in due:
            sqs.send_message(QueueUrl=target, MessageBody=letter["Body"])
            sqs.delete_message(QueueUrl=source, ReceiptHandle=letter["ReceiptHandle"])
            moved += 1
            progress.update("letters", moved, len(due))
    return moved


def _target(letter: Any) -> str:
    return str(letter.get("MessageAttributes", {}).get("TARGET_ARN", {}).get("StringValue", ""))
