"""`candor dlq show`: letters of a dead-letter queue, with their causes."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from candor.clock import SECOND, SystemClock, format_rfc3339
from cli.dlq.list import duration_text
from cli.dlq.queues import QUEUE_NAME, queue_named, received, sent_at, sqs_client
from cli.options import common
from cli.output import print_json
from cli.stage import Stage
from lender import DEFINITIONS

_CAUSES: Final = {
    "code": "code",
    "field": "field",
    "detail": "detail",
    "ERROR_CODE": "code",
    "EXHAUSTED_RETRY_CONDITION": "detail",
    "TARGET_ARN": "target",
}
"""Message attributes that functions and the event bus record, by the column that shows them."""


@click.command("show")
@click.argument("queue", type=QUEUE_NAME, metavar="QUEUE")
@click.option("--limit", type=click.IntRange(1, 1_000), default=10, show_default=True, help="Most letters.")
@click.option(
    "--with-data", is_flag=True, help="Print the messages as well: they hold tokens of persons and payloads."
)
@common
def show_command(queue: str, limit: int, stage: Stage, *, with_data: bool, as_json: bool) -> None:
    """Print letters of QUEUE and their causes; they stay in the queue.

    QUEUE is EventsDlq, Undelivered, StaleItemsDlq or StreamsDlq. A letter without a code was received too often: the
    log of the function that reads the source names the cause, under the letter's message id.
    """
    now = SystemClock().now_ms()
    sqs = sqs_client()
    with received(sqs, stage.output(queue_named(queue).output), limit) as letters:
        rows = [to_json(letter, now, with_data=with_data) for letter in letters]
    if as_json:
        print_json({"queue": queue, "letters": rows})
    else:
        _print(queue, rows)


def to_json(letter: Any, now: int, *, with_data: bool) -> dict[str, Any]:
    """JSON form of a letter: moments, receives and cause. The message only `with_data`: it names persons."""
    moment = sent_at(letter)
    row = {
        "message_id": letter["MessageId"],
        "sent_at": format_rfc3339(moment),
        "age_s": max(0, now - moment) // SECOND,
        "receives": int(letter["Attributes"]["ApproximateReceiveCount"]),
        "event_type": _event_type(letter["Body"]),
        **dict.fromkeys(_CAUSES.values()),
    }
    attributes = {
        name: value.get("StringValue", "") for name, value in letter.get("MessageAttributes", {}).items()
    }
    row |= {column: attributes[name] for name, column in _CAUSES.items() if name in attributes}
    return row | {"attributes": attributes, "message": letter["Body"]} if with_data else row


def _event_type(body: str) -> str | None:
    """Declared type of the event in a message; None for anything else, which a caller may have filled in."""
    try:
        name = json.loads(body)["detail"]["type"]
    except (ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and name in DEFINITIONS.event_types else None


def _print(queue: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo(f"{queue} has no letter that can be read now.")
    for row in rows:
        age = duration_text(row["age_s"])
        click.echo(
            f"message {row['message_id']}: sent {row['sent_at']}, {age} ago; received {row['receives']} ×"
        )
        cause = (
            row["code"] or "no code: received too often, see the log of the function that reads the source"
        )
        for name, value in (
            ("event type", row["event_type"]),
            ("cause", cause),
            ("field", row["field"]),
            ("detail", row["detail"]),
            ("target", row["target"]),
            ("message", row.get("message")),
        ):
            if value is not None:
                click.echo(f"  {name}: {value}")
