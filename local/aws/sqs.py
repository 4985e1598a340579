"""Queues that survive kill -9: a message is journaled before `send` returns, until it is deleted."""

from __future__ import annotations

import base64
import heapq
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.state import Journal

if TYPE_CHECKING:
    from sqlite3 import Connection

_INSERT = "INSERT INTO messages (seq, queue, id, body, attributes, sent_at, available_at) VALUES (?, ?, ?, ?, ?, ?, ?)"


def now_ms() -> int:
    """The wall clock in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True, eq=False)
class QueueMessage:
    """One message; times in milliseconds. `attributes` are its message attributes, `receipt` is the latest handle.

    `origin` is the ARN of the queue whose redrive policy moved it to a dead-letter queue.
    """

    seq: int
    id: str
    body: str
    sent_at: int
    attributes: dict[str, Any] = field(default_factory=dict)
    available_at: int = 0
    received: int = 0
    first_received_at: int | None = None
    receipt: str = ""
    origin: str | None = None


def _text(value: object) -> str:
    """A binary attribute in base64, as in SQS's API."""
    return base64.b64encode(bytes(value)).decode()  # type: ignore[call-overload] # moto passes binary values as bytes


class UnknownReceipt(Exception):
    """The receipt handle was never issued by this queue."""


class DurableQueue:
    """A standard queue: visibility timeout, redrive after `max_receives` receives, delay, retention. Times in seconds.

    Thread-safe. After a restart every message that was not deleted is visible again, with its receive count.
    """

    def __init__(
        self,
        name: str,
        arn: str,
        journal: Journal,
        *,
        visibility_timeout_s: float = 30,
        delay_s: float = 0,
        retention_s: float = 345_600,
        max_receives: int | None = None,
        dead_letters: DurableQueue | None = None,
    ) -> None:
        self.name, self.arn = name, arn
        self.visibility_timeout_s, self.delay_s, self.retention_s = visibility_timeout_s, delay_s, retention_s
        self.max_receives, self.dead_letters = max_receives, dead_letters
        self._journal = journal
        self._changed = threading.Condition()
        self._messages: dict[int, QueueMessage] = {}
        self._ready: deque[QueueMessage] = deque()
        self._waiting: list[tuple[int, int, QueueMessage]] = []
        self._reload()

    def _reload(self) -> None:
        query = (
            "SELECT seq, id, body, sent_at, attributes, available_at, received, first_received_at, origin "
            "FROM messages WHERE queue = ? ORDER BY seq"
        )
        for row in self._journal.rows(query, self.name):
            seq, id_, body, sent_at, attributes, available_at, received, first, origin = row
            message = QueueMessage(
                seq, id_, body, sent_at, json.loads(str(attributes)), available_at, received, first
            )
            message.origin = origin
            self._enqueue(message)

    # Sending

    def stage(
        self,
        db: Connection,
        bodies: Sequence[str],
        attributes: dict[str, Any] | None = None,
        delay_s: float | None = None,
    ) -> list[QueueMessage]:
        """Write messages inside the caller's transaction; call `publish` once it is committed."""
        sent_at = now_ms()
        available_at = sent_at + int(1000 * (self.delay_s if delay_s is None else delay_s))
        attributes = attributes or {}
        messages = [
            QueueMessage(seq, str(uuid.uuid4()), body, sent_at, attributes, available_at)
            for seq, body in zip(self._journal.numbers(len(bodies)), bodies, strict=True)
        ]
        text = json.dumps(attributes, default=_text)
        db.executemany(
            _INSERT, [(m.seq, self.name, m.id, m.body, text, sent_at, available_at) for m in messages]
        )
        return messages

    def publish(self, messages: Iterable[QueueMessage]) -> None:
        """Make committed messages visible."""
        with self._changed:
            for message in messages:
                self._enqueue(message)
            self._changed.notify_all()

    def send(
        self, bodies: Sequence[str], attributes: dict[str, Any] | None = None, delay_s: float | None = None
    ) -> list[QueueMessage]:
        """Send messages; they are journaled on return."""
        with self._journal.transaction() as db:
            messages = self.stage(db, bodies, attributes, delay_s)
        self.publish(messages)
        return messages

    def _enqueue(self, message: QueueMessage) -> None:
        self._messages[message.seq] = message
        if message.available_at > now_ms():
            heapq.heappush(self._waiting, (message.available_at, message.seq, message))
        else:
            self._ready.append(message)

    # Receiving

    def receive(self, limit: int, wait_s: float = 0, visibility_s: float | None = None) -> list[QueueMessage]:
        """Up to `limit` visible messages, oldest first, after waiting up to `wait_s` for the first one.

        A message that was received `max_receives` times moves to the dead-letter queue instead.
        """
        deadline = time.monotonic() + wait_s
        with self._changed:
            while True:
                messages = self._take(
                    limit, self.visibility_timeout_s if visibility_s is None else visibility_s
                )
                left = deadline - time.monotonic()
                if messages or left <= 0:
                    return messages
                self._changed.wait(min(left, self._until_next()))

    def _until_next(self) -> float:
        if not self._waiting:
            return 60.0
        return max(0.001, (self._waiting[0][0] - now_ms()) / 1000)

    def _take(self, limit: int, visibility_s: float) -> list[QueueMessage]:
        now = now_ms()
        self._wake(now)
        visible: list[QueueMessage] = []
        spent: list[QueueMessage] = []
        expired: list[QueueMessage] = []
        while self._ready and len(visible) < limit:
            message = self._ready.popleft()
            if message.seq not in self._messages:
                continue
            if message.sent_at + self.retention_s * 1000 <= now:
                expired.append(message)
            elif (
                self.dead_letters is not None and self.max_receives and message.received >= self.max_receives
            ):
                spent.append(message)
            else:
                visible.append(message)
        self._mark_received(visible, now, int(visibility_s * 1000))
        if spent:
            self._bury(spent)
        if expired:
            self._forget(expired)
        return visible

    def _wake(self, now: int) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            at, _, message = heapq.heappop(self._waiting)
            if message.seq in self._messages and message.available_at == at:
                self._ready.append(message)

    def _mark_received(self, messages: list[QueueMessage], now: int, visibility_ms: int) -> None:
        if not messages:
            return
        for message in messages:
            message.received += 1
            message.first_received_at = message.first_received_at or now
            message.receipt = f"{self.name}/{message.seq}/{uuid.uuid4().hex}"
            message.available_at = now + visibility_ms
            heapq.heappush(self._waiting, (message.available_at, message.seq, message))
        with self._journal.transaction() as db:
            db.executemany(
                "UPDATE messages SET received = ?, first_received_at = ? WHERE seq = ?",
                [(m.received, m.first_received_at, m.seq) for m in messages],
            )

    def _bury(self, messages: list[QueueMessage]) -> None:
        target = self.dead_letters
        assert target is not None
        with self._journal.transaction() as db:
            db.executemany(
                "UPDATE messages SET queue = ?, origin = ? WHERE seq = ?",
                [(target.name, self.arn, m.seq) for m in messages],
            )
        for message in messages:
            del self._messages[message.seq]
            message.available_at = 0
            message.origin = self.arn
        target.publish(messages)
        self._changed.notify_all()

    # Moving

    def visible(self) -> list[int]:
        """The numbers of the messages that could be received now, oldest first."""
        with self._changed:
            now = now_ms()
            self._wake(now)
            return sorted(m.seq for m in self._messages.values() if m.available_at <= now)

    def origin_of(self, number: int) -> str | None:
        """The ARN of the queue that a message came from; None if it was sent to this queue, or is gone."""
        message = self._messages.get(number)
        return message.origin if message else None

    def move(self, number: int, target: DurableQueue) -> int:
        """Move a message to another queue, where it is a new message; returns 0 if it is in flight or gone.

        The target's lock is never acquired inside this queue's: the target's own redrive acquires them the other way.
        """
        with self._changed:
            message = self._messages.get(number)
            now = now_ms()
            if message is None or message.available_at > now:
                return 0
            [seq] = self._journal.numbers(
                1
            )  # the old one may still be among the ready messages of this queue
            moved = QueueMessage(seq, str(uuid.uuid4()), message.body, now, message.attributes)
            with self._journal.transaction() as db:
                db.execute(
                    "UPDATE messages SET seq = ?, queue = ?, id = ?, sent_at = ?, available_at = 0, received = 0, "
                    "first_received_at = NULL, origin = NULL WHERE seq = ?",
                    (seq, target.name, moved.id, now, number),
                )
            del self._messages[number]
            self._changed.notify_all()
        target.publish([moved])
        return 1

    # Acknowledging

    def delete(self, receipts: Iterable[str]) -> None:
        """Delete messages; a deleted one is no error. Raises UnknownReceipt for a handle that was never issued."""
        numbers = [self._number(receipt) for receipt in receipts]
        with self._changed:
            self._forget([self._messages[n] for n in dict.fromkeys(numbers) if n in self._messages])

    def _forget(self, messages: list[QueueMessage]) -> None:
        with self._journal.transaction() as db:
            db.executemany("DELETE FROM messages WHERE seq = ?", [(m.seq,) for m in messages])
        for message in messages:
            del self._messages[message.seq]
        self._changed.notify_all()

    def change_visibility(self, receipt: str, seconds: float) -> None:
        """Hide a received message for `seconds` from now; 0 makes it visible at once."""
        number = self._number(receipt)
        with self._changed:
            message = self._messages.get(number)
            if message is None or not message.receipt:
                raise UnknownReceipt(receipt)
            message.available_at = now_ms() + int(seconds * 1000)
            heapq.heappush(self._waiting, (message.available_at, message.seq, message))
            self._changed.notify_all()

    def _number(self, receipt: str) -> int:
        name, _, rest = receipt.partition("/")
        number = rest.partition("/")[0]
        if name != self.name or not number.isdigit():
            raise UnknownReceipt(receipt)
        return int(number)

    def purge(self) -> None:
        """Delete every message."""
        with self._changed:
            self._forget(list(self._messages.values()))

    # Looking

    def counts(self) -> tuple[int, int, int]:
        """The numbers of visible, in-flight and delayed messages."""
        with self._changed:
            self._wake(now_ms())
            hidden = {
                m.seq: m for at, _, m in self._waiting if m.seq in self._messages and m.available_at == at
            }
            in_flight = sum(1 for message in hidden.values() if message.receipt)
            return len(self._messages) - len(hidden), in_flight, len(hidden) - in_flight

    def __len__(self) -> int:
        """The number of messages that are not deleted, visible or not."""
        return len(self._messages)

    def idle(self) -> bool:
        """Whether no message is visible or in flight; delayed messages do not count."""
        now = now_ms()
        with self._changed:
            return all(each.available_at > now and not each.receipt for each in self._messages.values())

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until the queue is idle; False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(self.idle, timeout_s)
