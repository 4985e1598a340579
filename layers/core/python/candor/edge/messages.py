"""SQS messages → ingest, and back: which messages are refused for good and which should come again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from candor.clock import Clock
from candor.contracts import Event, parse_envelope
from candor.errors import InvalidInput
from candor.features.definitions import Definitions
from candor.ingest import ingest
from candor.store.commits import Retention
from candor.store.protocol import FeatureStore


class Message(NamedTuple):
    """One queue message; the body is EventBridge's envelope."""

    id: str
    body: bytes


class MessageOutcome(NamedTuple):
    """Messages that can never be applied, with the reason, and messages to deliver again, with the cause.

    Counted: events that some view left out because they came `too_late` or were `erased`. `stale`: keys of items that went so.
    """

    refused: Sequence[tuple[Message, InvalidInput]]
    failed: Sequence[tuple[Message, str]]
    too_late: int = 0
    erased: int = 0
    stale: frozenset[str] = frozenset()


def ingest_messages(
    messages: Sequence[Message],
    definitions: Definitions,
    store: FeatureStore,
    clock: Clock,
    retention: Retention,
    *,
    synchronous_store: FeatureStore | None = None,
    writers: int = 1,
) -> MessageOutcome:
    """Apply a batch of messages; one that cannot be read does not hold up its neighbours."""
    parsed: list[tuple[Message, Event]] = []
    refused: list[tuple[Message, InvalidInput]] = []
    for message in messages:
        try:
            parsed.append((message, parse_envelope(message.body)))
        except InvalidInput as reason:
            refused.append((message, reason))
    outcome = ingest(
        [event for _, event in parsed],
        definitions,
        store,
        clock,
        retention,
        synchronous_store=synchronous_store,
        writers=writers,
    )
    refused += [(parsed[place][0], reason) for place, reason in outcome.refused.items()]
    failed = [
        (message, outcome.failed[event.dedup_id])
        for message, event in parsed
        if event.dedup_id in outcome.failed
    ]
    return MessageOutcome(refused, failed, len(outcome.too_late), len(outcome.erased), outcome.stale)
