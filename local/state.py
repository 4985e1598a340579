"""The state folder: everything that survives Ctrl-C, a crash and kill -9."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.errors import StateInUse, StateMismatch

FORMAT = "1"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY, queue TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, attributes TEXT NOT NULL,
    sent_at INTEGER NOT NULL, available_at INTEGER NOT NULL, received INTEGER NOT NULL DEFAULT 0,
    first_received_at INTEGER, origin TEXT
);
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, stream TEXT NOT NULL, arrived_at INTEGER NOT NULL, data BLOB NOT NULL, object_key TEXT
);
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, key TEXT NOT NULL, file TEXT NOT NULL, PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parameters (name TEXT PRIMARY KEY, type TEXT NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (name TEXT PRIMARY KEY, sequence TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    kind TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shapes (name TEXT PRIMARY KEY, shape TEXT NOT NULL) WITHOUT ROWID;
"""


class Journal:
    """One SQLite file in WAL mode: a committed transaction survives the death of this process at any moment.

    Commits are not fsynced: a power cut may lose the latest ones, kill -9 loses none.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        self._add_missing_columns()
        self._last = self._first_number()

    def _add_missing_columns(self) -> None:
        """Add the columns that a state of an earlier release lacks."""
        if "origin" not in {row[1] for row in self._db.execute("PRAGMA table_info(messages)")}:
            self._db.execute("ALTER TABLE messages ADD COLUMN origin TEXT")

    def _first_number(self) -> int:
        """The first sequence number: each opening has its own range, so no number repeats even after kill -9."""
        stored = self._db.execute("SELECT value FROM meta WHERE name = 'openings'").fetchone()
        openings = int(stored[0]) + 1 if stored else 1
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('openings', ?)", (str(openings),))
        return openings << 36

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """An atomic transaction; one writer at a time. Never acquire a queue's lock inside."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def numbers(self, count: int) -> range:
        """The next `count` sequence numbers, never used before in this folder."""
        with self._lock:
            first = self._last + 1
            self._last += count
            return range(first, first + count)

    def close(self) -> None:
        with self._lock:
            self._db.close()


class StateFolder:
    """`.local`: the journal, mirrored objects, tables and logs; held by one local system at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path / "lock")
        try:
            self.journal = Journal(self.path / "journal.sqlite")
            self._check_format()
        except BaseException:
            os.close(self._lock)
            raise

    def _check_format(self) -> None:
        stored = self.journal.rows("SELECT value FROM meta WHERE name = 'format'")
        if stored and stored[0][0] != FORMAT:
            raise StateMismatch(
                f"{self.path} was written by another version of the local system: run `make reset`"
            )
        with self.journal.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('format', ?)", (FORMAT,))

    def remember_shape(self, name: str, shape: str) -> None:
        """Record a stateful resource's shape; raise StateMismatch if it differs from the stored one."""
        stored = self.journal.rows("SELECT shape FROM shapes WHERE name = ?", name)
        if stored and stored[0][0] != shape:
            raise StateMismatch(
                f"{name} in {self.path} has another key schema than the template declares: run `make reset`"
            )
        with self.journal.transaction() as db:
            db.execute("INSERT OR REPLACE INTO shapes VALUES (?, ?)", (name, shape))

    def folder(self, name: str) -> Path:
        """A subfolder, created if missing."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def close(self) -> None:
        self.journal.close()
        os.close(self._lock)


def _lock(path: Path) -> int:
    """Acquire the folder's lock, which the kernel releases when its process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateInUse(
            f"{path.parent} is in use by process {holder}: stop that one first, by Ctrl-C or `kill {holder}`"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor
