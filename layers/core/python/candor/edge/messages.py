"""Ingests SQS messages: permanent failures are refused, transient ones are redelivered."""

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
"""Events dated further ahead (ms) are delayed: rows ahead of every reader would crowd their item."""


class Message(NamedTuple):
    """A queue message; the body is EventBridge's envelope."""

    id: str
    body: bytes


class MessageOutcome(NamedTuple):
    """Result of a batch: messages `refused` for good, with the error, or `failed` and redelivered, with the cause.

    `early`: messages whose event is dated ahead of the clock, with the delivery delay in seconds. `too_late`,
    `erased`: number of events that some view excluded. `stale`: keys of items to be healed.
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
    """Apply a batch of messages; an unreadable message does not affect the others."""
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
    refused += [(parsed[index][0], reason) for index, reason in outcome.refused.items()]
    failed = [
        (message, outcome.failed[event.dedup_id])
        for message, event in parsed
        if event.dedup_id in outcome.failed
    ]
    return MessageOutcome(refused, failed, len(outcome.too_late), len(outcome.erased), outcome.stale, early)
