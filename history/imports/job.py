"""One import, step by step: read and check the rows, archive the events, apply them.

Each step may be repeated after an interruption at any point: objects are written under the same names, and items know
what they hold. Everything is archived before anything is applied, so that a rebuild finds what an item counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from candor.clock import Clock
from candor.contracts import VOID
from candor.features.definitions import Definitions
from candor.store.erasures import Tombstones
from candor.updates import Retention
from history.archive.events import ENVELOPE, EVENTS_PREFIX, Envelope, read_envelopes, read_event, read_lines
from history.archive.objects import Bucket
from history.imports.accept import RowsRead, accepted_details
from history.imports.fill import Filled, StoreOf, fill
from history.imports.mapping import EventMapping
from history.imports.spool import EventSpool, Partitions, items_in, object_prefix
from history.imports.sql import EventQuery, connected

UPLOADS: Final = 8
"""Objects written at a time."""

BATCH: Final = 20_000
"""Rows converted at a time."""

Watch = Callable[[str, int, int | None], object]
"""Progress of a step: its name, units done, units in all if known."""


@dataclass(frozen=True)
class ImportTarget:
    """Where an import goes: the archive bucket, and the stores of items."""

    s3: Any
    bucket: str
    store_of: StoreOf
    retention: Retention
    clock: Clock


class ImportJob:
    """The import `import_id`, begun at `started_at` (ms UTC), with its spool in an empty private `folder`."""

    def __init__(
        self,
        target: ImportTarget,
        definitions: Definitions,
        import_id: str,
        started_at: int,
        folder: Path,
        watch: Watch,
    ) -> None:
        self._target, self._definitions = target, definitions
        self.started_at = started_at
        self._id, self._folder, self._watch = import_id, folder, watch
        self._prefix = object_prefix(import_id, started_at)
        self._partitions = Partitions(folder / "partitions", definitions)
        self._objects: Sequence[Path] = ()

    @property
    def items(self) -> int:
        """Number of items that take events."""
        return len(self._partitions.items)

    def read(self, mapping: EventMapping, files: Sequence[Path], tombstones: Tombstones) -> RowsRead:
        """Read and check every row. Raises MappingError, ArchiveDamaged."""
        rows_read = RowsRead()
        spool = EventSpool(self._folder / "objects", self.started_at)
        engine = connected(files, self._folder)
        with engine, self._partitions:
            query = EventQuery(engine, mapping, files, self._archived_ids())
            details = (detail for batch in query.batches(BATCH) for detail in batch)
            for detail, event in accepted_details(
                details, self._definitions, tombstones, self.started_at, rows_read
            ):
                spool.add(detail)
                self._partitions.add(event)
                if rows_read.read % BATCH == 0:
                    self._watch("reading rows", rows_read.read, None)
        self._watch("reading rows", rows_read.read, rows_read.read)
        self._objects = spool.close()
        return rows_read

    def archive(self) -> int:
        """Write the events to the archive; returns the number of objects."""
        names = [f"{self._prefix}{path.name}" for path in self._objects]
        with ThreadPoolExecutor(UPLOADS) as pool:
            for number, _ in enumerate(pool.map(self._upload, names, self._objects), 1):
                self._watch("archiving", number, len(names))
        for surplus in set(Bucket(self._target.s3, self._target.bucket, self._prefix).names()) - set(names):
            self._target.s3.delete_object(Bucket=self._target.bucket, Key=surplus)
        return len(names)

    def fetch(self) -> int:
        """Read the events back from the archive; returns their number. Raises ArchiveDamaged."""
        number = 0
        objects = Bucket(self._target.s3, self._target.bucket, self._prefix)
        with self._partitions:
            for number, envelope in enumerate(read_envelopes(objects), 1):
                self._partitions.add(read_event(envelope))
                if number % BATCH == 0:
                    self._watch("reading the archive", number, None)
        return number

    def fill(self, threads: int) -> Filled:
        """Apply the events to their items."""
        total = Filled()
        with ThreadPoolExecutor(threads) as pool:
            for filled in pool.map(self._fill_partition, self._partitions.paths()):
                total += filled
                self._watch("filling items", total.items, self.items)
        return total

    def _fill_partition(self, path: Path) -> Filled:
        total = Filled()
        items = items_in(path, self._definitions)
        target = self._target
        for filled in fill(items, target.store_of, target.clock, target.retention, f"import-{self._id}"):
            total += filled
        return total

    def _upload(self, name: str, path: Path) -> None:
        self._target.s3.put_object(Bucket=self._target.bucket, Key=name, Body=path.read_bytes())

    def _archived_ids(self) -> Iterator[list[str]]:
        """Yield the ids of events in the archive, except those of this import."""
        bucket = Bucket(self._target.s3, self._target.bucket, EVENTS_PREFIX)
        names = [name for name in bucket.names() if not name.startswith(self._prefix)]
        for number, data in enumerate(bucket.read(names), 1):
            yield [_id_in(envelope) for envelope in read_lines([data], ENVELOPE)]
            self._watch("reading the archive", number, len(names))


class _Identity(msgspec.Struct):
    event_id: Any = None
    voided_at: Any = None


_IDENTITY: Final = msgspec.json.Decoder(_Identity)


def _id_in(envelope: Envelope) -> str:
    """Deduplication id of an archived event; empty for a line that is none."""
    try:
        identity = _IDENTITY.decode(envelope.detail)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return f"{identity.event_id}{'' if identity.voided_at is None else VOID}"
