"""Event source mappings of tables' streams: Lambda's polling between a stream and a function.

Records are handed over in order, one batch at a time. The journal has a checkpoint per function, from which a restart
continues: no record is lost, the last batch may be repeated.

Differences from AWS: a stream is one shard; a failed batch is retried after a short, growing delay.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

from local.lambda_.queue_poller import (
    ERROR_PAUSE_S,
    EVENT_LIMIT,
    Invoke,
    batch_event,
    failed_identifiers,
    invoke_batch,
    retry_delay_s,
)
from local.state import Journal

_IDLE_S = 0.25  # Lambda's own base rate: four reads a second

log = logging.getLogger(__name__)

Record = dict[str, Any]


class PollableStream(Protocol):
    """A stream as a poller uses it, from one thread."""

    @property
    def arn(self) -> str: ...
    @property
    def engine_arn(self) -> str: ...
    @property
    def shard(self) -> str: ...

    def seek(self, after: str | None) -> None:
        """Position after a sequence number; at the oldest record when it is None."""
        ...

    def read(self, limit: int) -> list[Record]:
        """The next records, in order; empty at the stream's end."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class _EncodedRecord(NamedTuple):
    sequence: str
    at_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class StreamMapping:
    """A mapping's settings as its template declares them; times in seconds, None: unbounded.

    `matches` is its filter; `give_up` receives the notice about discarded records.
    """

    function: str
    batch_size: int = 100
    window_s: float = 0
    partial: bool = False
    bisect: bool = False
    max_retries: int | None = None
    max_age_s: float | None = None
    matches: Callable[[Record], bool] = lambda _: True
    give_up: Callable[[str], object] = lambda _: None


class StreamPoller:
    """Invokes a function with a stream's records in batches, from one thread.

    With `partial` (ReportBatchItemFailures) a batch is retried from the first record that the function names; if the
    function fails, or names others, the whole batch is retried, in halves with `bisect`.
    """

    def __init__(
        self, stream: PollableStream, mapping: StreamMapping, invoke: Invoke, journal: Journal
    ) -> None:
        self.stream, self.mapping = stream, mapping
        self.handed_over = 0  # counted when the function has returned: its own messages are sent by then
        self._invoke, self._journal = invoke, journal
        self._name = f"{mapping.function} {stream.engine_arn}"
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._requested = self._settled = 0
        self._thread = threading.Thread(target=self._run, name=f"stream-{mapping.function}", daemon=True)

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, and return when the invocation in progress is settled."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self.stream.close()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all current records are handed over; False after `timeout_s`."""
        with self._changed:
            self._requested += 1
            ticket = self._requested
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._settled >= ticket, timeout_s)

    # Reading

    def _run(self) -> None:
        positioned = False
        while not self._stopping.is_set():
            try:
                if not positioned:
                    self.stream.seek(self._checkpoint())
                positioned = True
                requested = self._requested
                batch = self._gather()
                if not batch:
                    self._idle(requested)
                    continue
                self._hand_over(batch)
            except OSError as error:  # the engine restarts
                log.warning("%s does not respond (%s): retrying", self.stream.arn, error)
                positioned = False
                self._stopping.wait(ERROR_PAUSE_S)
            except Exception:  # the poller must survive, or the stream would stop
                log.exception("polling %s for %s failed", self.stream.arn, self.mapping.function)
                positioned = False
                self._stopping.wait(ERROR_PAUSE_S)

    def _gather(self) -> list[Record]:
        size = self.mapping.batch_size
        batch = self.stream.read(size)
        if batch and len(batch) < size and self.mapping.window_s:
            self._pause(self.mapping.window_s)
            batch += self.stream.read(size - len(batch))
        return batch

    def _idle(self, requested: int) -> None:
        """Mark `requested` calls of `settle` as settled, since the stream is empty, and pause."""
        with self._changed:
            self._settled = requested
            self._changed.notify_all()
        self._pause(_IDLE_S)

    def _pause(self, seconds: float) -> None:
        """Wait up to `seconds`, less if `settle` or `stop` is called."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._requested > self._settled or self._stopping.is_set(), timeout=seconds
            )

    def _checkpoint(self) -> str | None:
        rows = self._journal.rows("SELECT sequence FROM checkpoints WHERE name = ?", self._name)
        return str(rows[0][0]) if rows else None

    def _save(self, sequence: str) -> None:
        with self._journal.transaction() as db:
            db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (self._name, sequence))

    # Handing over

    def _hand_over(self, batch: list[Record]) -> None:
        chosen = [_item(record) for record in batch if self.mapping.matches(record)]
        for part in _requests(chosen):
            if not self._deliver(part):
                return
        self._save(batch[-1]["dynamodb"]["SequenceNumber"])

    def _deliver(self, items: Sequence[_EncodedRecord]) -> bool:
        """Retry until the function took all records or they are discarded; False if stopped before that."""
        attempts = 0
        while items:
            if self._stopping.is_set():
                return False
            taken, whole = self._invoked(items)
            if taken:
                self._save(items[taken - 1].sequence)
                items, attempts = items[taken:], 0
                continue
            attempts += 1
            passed = self._spent(items, attempts)
            if passed:
                self._discard(items[:passed], attempts)
                items, attempts = items[passed:], 0
            elif whole and self.mapping.bisect and len(items) > 1:
                half = len(items) // 2
                return self._deliver(items[:half]) and self._deliver(items[half:])
            else:
                self._stopping.wait(retry_delay_s(attempts))
        return True

    def _invoked(self, items: Sequence[_EncodedRecord]) -> tuple[int, bool]:
        """The number of leading records that the function took, and whether it failed as a whole."""
        result = invoke_batch(self._invoke, self.mapping.function, batch_event([item.text for item in items]))
        self.handed_over += len(items)
        if result is None:
            return 0, True
        failed = failed_identifiers(result.payload) if self.mapping.partial else set()
        if failed is None or not failed <= {item.sequence for item in items}:
            log.warning("%s gave a malformed batch response: %.300r", self.mapping.function, result.payload)
            return 0, True
        return sum(1 for _ in takewhile(lambda item: item.sequence not in failed, items)), False

    def _spent(self, items: Sequence[_EncodedRecord], attempts: int) -> int:
        """The number of leading records that are not retried."""
        if self.mapping.max_retries is not None and attempts > self.mapping.max_retries:
            return len(items)
        if self.mapping.max_age_s is None:
            return 0
        oldest = time.time() - self.mapping.max_age_s
        return sum(1 for _ in takewhile(lambda item: item.at_s < oldest, items))

    def _discard(self, items: Sequence[_EncodedRecord], attempts: int) -> None:
        log.error("%s discarded %s records of %s", self.mapping.function, len(items), self.stream.arn)
        self.mapping.give_up(json.dumps(self._notice(items, attempts)))
        self._save(items[-1].sequence)

    def _notice(self, items: Sequence[_EncodedRecord], attempts: int) -> dict[str, Any]:
        """The notice to an on-failure destination (developer guide, "Retain discarded records")."""
        spent = self.mapping.max_retries is not None and attempts > self.mapping.max_retries
        return {
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": self.mapping.function,
                "condition": "RetryAttemptsExhausted" if spent else "RecordAgeExceeded",
                "approximateInvokeCount": attempts,
            },
            "version": "1.0",
            "timestamp": _iso(time.time()),
            "DDBStreamBatchInfo": {
                "shardId": self.stream.shard,
                "startSequenceNumber": items[0].sequence,
                "endSequenceNumber": items[-1].sequence,
                "approximateArrivalOfFirstRecord": _iso(items[0].at_s),
                "approximateArrivalOfLastRecord": _iso(items[-1].at_s),
                "batchSize": len(items),
                "streamArn": self.stream.arn,
            },
        }


def _item(record: Record) -> _EncodedRecord:
    change = record["dynamodb"]
    return _EncodedRecord(
        change["SequenceNumber"], float(change["ApproximateCreationDateTime"]), json.dumps(record)
    )


def _requests(items: Sequence[_EncodedRecord]) -> list[list[_EncodedRecord]]:
    """The records split into parts that each fit a function's request."""
    parts: list[list[_EncodedRecord]] = []
    size = 0
    for item in items:
        if not parts or size + len(item.text) > EVENT_LIMIT:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += len(item.text) + 1
    return parts


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
