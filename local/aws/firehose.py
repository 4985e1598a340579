"""A Firehose delivery stream: durable appends, delivered as compressed objects to a bucket, each record once."""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from local.aws.sqs import now_ms
from local.state import Journal

if TYPE_CHECKING:
    from sqlite3 import Connection

_TIMESTAMP = re.compile(r"!\{timestamp:([^}]*)\}")
_JAVA_TIME = (("yyyy", "%Y"), ("MM", "%m"), ("dd", "%d"), ("HH", "%H"), ("mm", "%M"), ("ss", "%S"), ("'", ""))

_INSERT = "INSERT INTO records (seq, stream, arrived_at, data) VALUES (?, ?, ?, ?)"

PutObject = Callable[[str, str, bytes], None]


@dataclass(frozen=True)
class Destination:
    """A stream's destination as its template declares it. Buffer hints in seconds and bytes."""

    bucket: str
    prefix: str = ""
    compressed: bool = False
    delimiter: bytes = b""
    interval_s: float = 300
    size: int = 5 << 20

    def key(self, stream: str, arrived_at: int, first: int, last: int) -> str:
        """The object's key: prefix, hour of arrival (UTC), stream, first and last sequence number."""
        at = datetime.fromtimestamp(arrived_at / 1000, UTC)
        folder = _TIMESTAMP.sub(lambda match: at.strftime(_strftime(match.group(1))), self.prefix)
        if "!{timestamp:" not in self.prefix:
            folder = f"{self.prefix}{at:%Y/%m/%d/%H}/"
        return f"{folder}{stream}-1-{at:%Y-%m-%d-%H-%M-%S}-{first}-{last}{'.gz' if self.compressed else ''}"


def _strftime(java: str) -> str:
    for letters, directive in _JAVA_TIME:
        java = java.replace(letters, directive)
    return java


class DeliveryStream:
    """A delivery stream, buffered in the journal.

    An object's key is journaled before the object is written, so that a crash repeats no record.
    """

    def __init__(self, name: str, destination: Destination, journal: Journal, put_object: PutObject) -> None:
        self.name, self.destination = name, destination
        self._journal, self._put_object = journal, put_object
        self._delivering = threading.Lock()
        self._wake = threading.Condition()
        self._buffered, self._oldest, self._closed = 0, time.monotonic(), False
        self._thread = threading.Thread(target=self._run, name=f"firehose {name}", daemon=True)

    def start(self) -> None:
        """Deliver the records of an earlier run, then deliver by the buffer hints."""
        self.flush()
        self._thread.start()

    def stage(self, db: Connection, records: Sequence[str]) -> None:
        """Append records inside the caller's transaction; call `appended` once it is committed."""
        arrived_at = now_ms()
        numbers = self._journal.numbers(len(records))
        rows = [
            (seq, self.name, arrived_at, text.encode()) for seq, text in zip(numbers, records, strict=True)
        ]
        db.executemany(_INSERT, rows)

    def append(self, records: Sequence[bytes]) -> range:
        """Append records durably; returns their sequence numbers."""
        arrived_at = now_ms()
        numbers = self._journal.numbers(len(records))
        rows = [(seq, self.name, arrived_at, data) for seq, data in zip(numbers, records, strict=True)]
        with self._journal.transaction() as db:
            db.executemany(_INSERT, rows)
        self.appended(sum(map(len, records)))
        return numbers

    def appended(self, size: int) -> None:
        """Count committed records of `size` characters into the buffer."""
        with self._wake:
            if not self._buffered:
                self._oldest = time.monotonic()
                self._wake.notify()
            self._buffered += size
            if self._buffered >= self.destination.size:
                self._wake.notify()

    def flush(self) -> int:
        """Deliver all buffered records; returns the number of objects written."""
        with self._delivering:
            with self._wake:
                self._buffered = 0
            written = sum(self._deliver(key) for key in self._named())
            while key := self._name_next():
                written += self._deliver(key)
            return written

    def _named(self) -> list[str]:
        query = "SELECT DISTINCT object_key FROM records WHERE stream = ? AND object_key IS NOT NULL"
        return [str(row[0]) for row in self._journal.rows(query, self.name)]

    def _name_next(self) -> str | None:
        """Assign an object key to the oldest records: of one hour, at most one buffer's size."""
        query = (
            "SELECT seq, arrived_at, LENGTH(data) FROM records WHERE stream = ? AND object_key IS NULL "
            "ORDER BY seq LIMIT 100000"
        )
        rows = self._journal.rows(query, self.name)
        if not rows:
            return None
        hour, size, last = rows[0][1] // 3_600_000, 0, rows[0][0]
        for seq, arrived_at, length in rows:
            size += length
            if seq != last and (size > self.destination.size or arrived_at // 3_600_000 != hour):
                break
            last = seq
        key = self.destination.key(self.name, rows[0][1], rows[0][0], last)
        with self._journal.transaction() as db:
            db.execute(
                "UPDATE records SET object_key = ? WHERE stream = ? AND object_key IS NULL AND seq <= ?",
                (key, self.name, last),
            )
        return key

    def _deliver(self, key: str) -> int:
        """Write the object, then delete its records; if interrupted in between, the same object is rewritten."""
        query = "SELECT data FROM records WHERE stream = ? AND object_key = ? ORDER BY seq"
        delimiter = self.destination.delimiter
        body = b"".join(bytes(row[0]) + delimiter for row in self._journal.rows(query, self.name, key))
        if self.destination.compressed:
            body = gzip.compress(body, compresslevel=6, mtime=0)
        self._put_object(self.destination.bucket, key, body)
        with self._journal.transaction() as db:
            db.execute("DELETE FROM records WHERE stream = ? AND object_key = ?", (self.name, key))
        return 1

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._closed and not self._due():
                    self._wake.wait(self._patience())
                if self._closed:
                    return
                due = self._due()
            if due:
                self.flush()

    def _due(self) -> bool:
        waited = time.monotonic() - self._oldest
        return self._buffered >= self.destination.size or (
            self._buffered > 0 and waited >= self.destination.interval_s
        )

    def _patience(self) -> float:
        if not self._buffered:
            return 3600.0
        return max(0.05, self._oldest + self.destination.interval_s - time.monotonic())

    def close(self) -> None:
        """Stop the timer and deliver the remaining records."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()
