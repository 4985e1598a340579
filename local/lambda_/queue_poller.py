"""Event source mappings of queues: Lambda's polling between a queue and a function.

Differences from AWS: a failed message is retried after a short, growing delay instead of the queue's visibility
timeout, so that a poison message reaches the dead-letter queue in seconds; filters are not applied.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from local.lambda_.sandbox import Invocation

__all__ = [
    "Invoke",
    "PollableQueue",
    "QueuePoller",
    "ReceivedMessage",
    "batch_event",
    "failed_identifiers",
    "invoke_batch",
    "retry_delay_s",
]

Invoke = Callable[[str, bytes], Invocation]

EVENT_LIMIT = 6 * 1024 * 1024 - 100  # bytes of records that fit a function's request
_LONG_POLL_S = 1.0  # also bounds the time that stop() waits for an idle poller
ERROR_PAUSE_S = 1.0
_FIRST_RETRY_S = 0.5
_LAST_RETRY_S = 20.0

log = logging.getLogger(__name__)


class ReceivedMessage(Protocol):
    """A received message; times in milliseconds.

    `attributes` holds its message attributes under "message", spelled as in SQS's API.
    """

    @property
    def id(self) -> str: ...
    @property
    def receipt(self) -> str: ...
    @property
    def body(self) -> str: ...
    @property
    def sent_at(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def first_received_at(self) -> int | None: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...


class PollableQueue(Protocol):
    """A queue as a poller uses it; every method is thread-safe."""

    @property
    def arn(self) -> str: ...

    def receive(self, limit: int, wait_s: float) -> Sequence[ReceivedMessage]:
        """Up to `limit` visible messages, after waiting (without spinning) up to `wait_s` for the first."""
        ...

    def delete(self, receipts: Iterable[str]) -> None:
        """Delete messages."""
        ...

    def change_visibility(self, receipt: str, seconds: float) -> None:
        """Return a message to the queue, visible after `seconds`."""
        ...


class QueuePoller:
    """Invokes a function with a queue's messages in batches, from `concurrency` threads.

    A batch is complete with `batch_size` messages, `window_s` after its first one, or at the size of a request. With
    `partial` (ReportBatchItemFailures) the messages that the function names are retried; if it fails, or names
    others, all are. The rest is deleted.
    """

    def __init__(
        self,
        queue: PollableQueue,
        function: str,
        batch_size: int,
        window_s: float,
        invoke: Invoke,
        concurrency: int = 2,
        *,
        partial: bool = True,
    ) -> None:
        self._queue = queue
        self._function = function
        self._batch_size = batch_size
        self._window_s = window_s
        self._invoke = invoke
        self._partial = partial
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"poller-{function}-{number}", daemon=True)
            for number in range(concurrency)
        ]

    def start(self) -> None:
        """Start polling."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop polling, and return when the batches in progress are settled."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                batch = self._gather()
                if batch:
                    self._process(batch)
            except Exception:  # the poller must survive, or the queue would stop
                log.exception("polling %s for %s failed", self._queue.arn, self._function)
                self._stopping.wait(ERROR_PAUSE_S)

    def _gather(self) -> list[ReceivedMessage]:
        batch = list(self._queue.receive(self._batch_size, _LONG_POLL_S))
        closes = time.monotonic() + self._window_s
        while batch and len(batch) < self._batch_size and not self._stopping.is_set():
            left = closes - time.monotonic()
            if left <= 0:
                break
            batch += self._queue.receive(self._batch_size - len(batch), min(left, _LONG_POLL_S))
        return batch

    def _process(self, batch: Sequence[ReceivedMessage]) -> None:
        for part, event in _events(batch, self._queue.arn):
            failed = self._failures(part, event)
            done = [message.receipt for message in part if message.id not in failed]
            if done:
                self._queue.delete(done)
            for message in part:
                if message.id in failed:
                    self._give_back(message)

    def _give_back(self, message: ReceivedMessage) -> None:
        try:
            self._queue.change_visibility(message.receipt, retry_delay_s(message.received))
        except Exception:  # its visibility timeout will make it visible
            log.exception("message %s of %s could not be returned", message.id, self._queue.arn)

    def _failures(self, batch: Sequence[ReceivedMessage], event: bytes) -> set[str]:
        """The ids of the messages to retry."""
        everything = {message.id for message in batch}
        result = invoke_batch(self._invoke, self._function, event)
        if result is None:
            return everything
        if not self._partial:
            return set()
        failed = failed_identifiers(result.payload)
        if failed is None or not failed <= everything:
            log.warning("%s gave a malformed batch response: %.300r", self._function, result.payload)
            return everything
        return failed


def invoke_batch(invoke: Invoke, function: str, event: bytes) -> Invocation | None:
    """Invoke a function with a batch; None when it failed."""
    try:
        result = invoke(function, event)
    except Exception:  # the batch must be returned after any error
        log.exception("%s could not be invoked", function)
        return None
    if result.error is not None:
        log.warning("%s failed on a batch: %.300r", function, result.payload)
        return None
    return result


def retry_delay_s(received: int) -> float:
    """The delay after the `received`-th failure: 0.5 s, doubling up to 20 s."""
    return float(min(_LAST_RETRY_S, _FIRST_RETRY_S * 2 ** min(max(received - 1, 0), 10)))


def sqs_record(message: ReceivedMessage, arn: str) -> dict[str, Any]:
    """A message as Lambda's SQS event record (AWS Lambda developer guide, "Using Lambda with Amazon SQS")."""
    attributes = message.attributes.get("message") or {}
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.received),
            "SentTimestamp": str(message.sent_at),
            "SenderId": arn.split(":")[4],
            "ApproximateFirstReceiveTimestamp": str(message.first_received_at or message.sent_at),
        },
        "messageAttributes": {name: _attribute(value) for name, value in attributes.items()},
        "md5OfBody": hashlib.md5(
            message.body.encode("utf-8", "surrogatepass"), usedforsecurity=False
        ).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    """A message attribute in the spelling of the event record."""
    contents = {
        "stringValue": value.get("StringValue"),
        "binaryValue": value.get("BinaryValue"),
        "dataType": value.get("DataType"),
    }
    present = {name: content for name, content in contents.items() if content is not None}
    return {**present, "stringListValues": [], "binaryListValues": []}


def _events(batch: Sequence[ReceivedMessage], arn: str) -> Iterator[tuple[list[ReceivedMessage], bytes]]:
    """The events of a batch: more than one when its records exceed the size of a request."""
    part: list[ReceivedMessage] = []
    texts: list[str] = []
    size = 0
    for message in batch:
        text = json.dumps(sqs_record(message, arn))
        if part and size + len(text) > EVENT_LIMIT:
            yield part, batch_event(texts)
            part, texts, size = [], [], 0
        part.append(message)
        texts.append(text)
        size += len(text) + 1
    yield part, batch_event(texts)


def batch_event(records: Sequence[str]) -> bytes:
    """The event of a batch of records (JSON)."""
    return f'{{"Records":[{",".join(records)}]}}'.encode()


def failed_identifiers(payload: bytes) -> set[str] | None:
    """The item identifiers in a partial batch response; None when it is malformed."""
    try:
        answer = json.loads(payload)
        failures = (answer or {}).get("batchItemFailures") or []
        identifiers = [failure["itemIdentifier"] for failure in failures]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not all(isinstance(name, str) and name for name in identifiers):
        return None
    return set(identifiers)
