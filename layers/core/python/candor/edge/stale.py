"""The queue of stale items: the updater names them, and a worker heals them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from candor.edge.delivery import deliver
from candor.errors import InvalidInput, StoreUnavailable

MESSAGES_PER_CALL: Final = 10
BYTES_PER_CALL: Final = 1 << 20
"""What SQS's SendMessageBatch takes."""


class StaleItem(msgspec.Struct, frozen=True):
    """An item that is not exact, by its key, and the moment (ms) since when it is known to be so."""

    key: str
    since: int


def parse_stale_item(body: bytes) -> StaleItem:
    """A message's body → the item. Raises InvalidInput, without the body's content."""
    try:
        return msgspec.json.decode(body, type=StaleItem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("unreadable_message", "The message names no stale item.") from None


class StaleQueue:
    """Sends to the queue at `url` by boto3's `send_message_batch`."""

    def __init__(self, send_message_batch: Callable[..., Any], url: str) -> None:
        self._send_message_batch, self._url = send_message_batch, url

    def send(self, items: Iterable[StaleItem], delay_s: int = 0) -> None:
        """Queue items, to be received after `delay_s` at the earliest.

        Raises StoreUnavailable if the queue goes on refusing some; botocore's errors pass through.
        """
        bodies = [msgspec.json.encode(item).decode() for item in items]
        refused = deliver(
            lambda page: self._send(page, delay_s), bodies, len, most=MESSAGES_PER_CALL, limit=BYTES_PER_CALL
        )
        if refused:
            raise StoreUnavailable(f"the queue of stale items refused {len(refused)} messages")

    def _send(self, bodies: Sequence[str], delay_s: int) -> Sequence[Mapping[str, Any]]:
        """The result of each message, in order."""
        entries = [
            {"Id": str(place), "MessageBody": body, "DelaySeconds": delay_s}
            for place, body in enumerate(bodies)
        ]
        answer = self._send_message_batch(QueueUrl=self._url, Entries=entries)
        failed = {int(entry["Id"]): entry for entry in answer.get("Failed", ())}
        return [
            {"ErrorCode": failed[place]["Code"]} if place in failed else {} for place in range(len(bodies))
        ]
