"""SQS messages → ingest, and back: which messages are refused for good and which should come again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from candor.clock import SECOND, Clock
from candor.contracts import Event, parse_envelope
from candor.errors import InvalidInput
from candor.features.definitions import Definitions
from candor.ingest import ingest
from candor.store.protocol import FeatureStore
from candor.updates import Retention

EARLY_MS = 1_000
"""An event that is dated so far ahead waits outside of its item: rows ahead of every reader would crowd it."""


class Message(NamedTuple):
    """One queue message; the body is EventBridge's envelope."""

    id: str
    body: bytes


class MessageOutcome(NamedTuple):
    """Messages that can never be applied, with the reason, and messages to deliver again, with the cause.

    `early`: messages whose event is dated ahead of the clock, with the seconds after which to deliver them. Counted: events that
    some view left out because they came `too_late` or were `erased`. `stale`: keys of items that are to be healed.
    """

    refused: Sequence[tuple[Message, InvalidInput]]
    failed: Sequence[tuple[Message, str]]
    too_late: int = 0
    erased: int = 0
    stale: frozenset[str] = frozenset()
    early: Sequence[tuple[Message, int]] = ()


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
    early: list[tuple[Message, int]] = []
    now_ms = clock.now_ms()
    for message in messages:
        try:
            event = parse_envelope(message.body)
            wait_ms = max(event.occurred_at, event.voided_at or 0) - now_ms
            if EARLY_MS < wait_ms <= definitions.max_future_skew_ms:
                definitions.check_event(event, now_ms)
                early.append((message, -(-wait_ms // SECOND)))
            else:
                parsed.append((message, event))
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
    return MessageOutcome(refused, failed, len(outcome.too_late), len(outcome.erased), outcome.stale, early)
