"""The queue of stale items: the updater names them, and a worker heals them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from candor.edge.delivery import deliver
from candor.errors import InvalidInput

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

    def send(self, items: Iterable[StaleItem], delay_s: int = 0) -> int:
        """Queue items, to be received after `delay_s` at the earliest; the number of those that the queue goes on refusing.

        botocore's errors pass through.
        """
        bodies = [msgspec.json.encode(item).decode() for item in items]
        send = partial(self._send, delay_s)
        return len(deliver(send, bodies, len, most=MESSAGES_PER_CALL, limit=BYTES_PER_CALL))

    def _send(self, delay_s: int, bodies: Sequence[str]) -> Sequence[Mapping[str, Any]]:
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
