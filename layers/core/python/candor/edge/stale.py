"""Queue of stale items, from the updater to the healing worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from candor.edge.delivery import deliver
from candor.errors import InvalidInput

MESSAGES_PER_CALL: Final = 10
BYTES_PER_CALL: Final = 1 << 20
"""Limits of SQS's SendMessageBatch."""


class StaleItem(msgspec.Struct, frozen=True):
    """A stale item by its key, and since when it is known to be stale (ms)."""

    key: str
    since: int


def parse_stale_item(body: bytes) -> StaleItem:
    """A message's body → StaleItem. Raises `InvalidInput`, which never repeats the body."""
    try:
        return msgspec.json.decode(body, type=StaleItem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("unreadable_message", "The message names no stale item.") from None


class StaleQueue:
    """The queue at `url`, written by boto3's `send_message_batch`."""

    def __init__(self, send_message_batch: Callable[..., Any], url: str) -> None:
        self._send_message_batch, self._url = send_message_batch, url

    def send(self, items: Iterable[StaleItem], delay_s: int = 0) -> int:
        """Queue items with a delay of `delay_s`; returns the number of items that failed in every attempt.

        botocore's errors propagate.
        """
        bodies = [msgspec.json.encode(item).decode() for item in items]
        send = partial(self._send, delay_s)
        return len(deliver(send, bodies, len, most=MESSAGES_PER_CALL, limit=BYTES_PER_CALL))

    def _send(self, delay_s: int, bodies: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Result entries of the messages, in order."""
        entries = [
            {"Id": str(place), "MessageBody": body, "DelaySeconds": delay_s}
            for place, body in enumerate(bodies)
        ]
        answer = self._send_message_batch(QueueUrl=self._url, Entries=entries)
        failed = {int(entry["Id"]): entry for entry in answer.get("Failed", ())}
        return [
            {"ErrorCode": failed[place]["Code"]} if place in failed else {} for place in range(len(bodies))
        ]
