"""`candor dlq list`: the dead-letter queues of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.table import Table

from candor.clock import SECOND, SystemClock
from cli.dlq.queues import QUEUES, DeadLetterQueue, depth, received, sent_at, sqs_client
from cli.options import common
from cli.output import print_json
from cli.stage import Stage

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

LOOKED_AT: Final = 100
"""Letters read per queue for the age of the oldest: SQS does not sort them."""


@click.command("list")
@common
def list_command(stage: Stage, *, as_json: bool) -> None:
    """Print every dead-letter queue: its letters, the age of the oldest, where they come from.

    Queues that are not empty also have their alarm and its runbook.

    The age counts from when the message was first sent. Of a queue with more than 100 letters it is that of the
    oldest among 100 of them, marked "≥".
    """
    sqs, now = sqs_client(), SystemClock().now_ms()
    rows = [_row(sqs, stage, queue, now) for queue in QUEUES]
    if as_json:
        print_json({"queues": rows})
        return
    table = Table("queue", "letters", "oldest", "source")
    for row in rows:
        oldest = "" if row["oldest_age_s"] is None else duration_text(row["oldest_age_s"])
        prefix = "≥ " if row["oldest_is_lower_bound"] else ""
        table.add_row(row["queue"], str(row["letters"]), prefix + oldest, row["source"])
    Console().print(table)
    for row in rows:
        if row["letters"]:
            click.echo(f"{row['queue']}: alarm {row['alarm']}, runbook {row['runbook']}")


def _row(sqs: SQSClient, stage: Stage, queue: DeadLetterQueue, now: int) -> dict[str, Any]:
    url = stage.output(queue.output)
    visible, in_flight = depth(sqs, url)
    moments: list[int] = []
    if visible:
        with received(sqs, url, LOOKED_AT) as letters:
            moments = [sent_at(letter) for letter in letters]
    return {
        "queue": queue.name,
        "letters": visible + in_flight,
        "in_flight": in_flight,
        "oldest_age_s": max(0, now - min(moments)) // SECOND if moments else None,
        "oldest_is_lower_bound": bool(moments) and visible + in_flight > len(moments),
        "source": queue.feeder,
        "alarm": queue.alarm,
        "runbook": queue.runbook,
    }


def duration_text(seconds: int) -> str:
    """Text of a duration in its largest whole unit: `45 s`, `12 min`, `5 h`, `3 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
