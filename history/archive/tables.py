"""Archive tables: one Parquet file per day of arrival, derived from that day's objects alone.

Each file records its sources. Compacting again therefore skips a day without changes, rewrites a day with a late
object or one that an erasure rewrote, and removes a day whose objects have expired. A day's file is the same in a
folder and in a bucket. Columns are only ever added: an older file has them as nulls.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from candor.decision import parse_record
from candor.errors import InvalidInput
from history.archive.commits import COMMITS_PREFIX, Commit
from history.archive.decisions import DECISIONS_PREFIX, DecisionLine
from history.archive.events import (
    ENVELOPE,
    EVENTS_PREFIX,
    ArchiveDamaged,
    Decoder,
    Envelope,
    read_event,
    read_lines,
)
from history.archive.objects import Object

TABLES_PREFIX: Final = "tables/"
SOURCES: Final = b"candor.sources"
"""Key of the Parquet metadata that names a file's sources."""

AT_A_TIME: Final = 50_000
_DAY: Final = re.compile(r"(?:^|/)(\d{4})/(\d{2})/(\d{2})/\d{2}/")
_MOMENT: Final = pa.timestamp("ms")

Row = dict[str, Any]

TokenForm = Literal["entities", "data", "record", "item key", "text"]
"""Form in which a column holds tokens.

`entities`: values of a map by kind. `data`: an event's JSON, about the `entities` of its row. `record`: a decision's
JSON. `item key`: after the view's name and version. `text`: anywhere in a text of any form.
"""


class Store(Protocol):
    """Store of source objects and tables: a folder or a bucket."""

    def stamps(self, prefix: str) -> Mapping[str, str]:
        """Return every object under a prefix, with a stamp that changes when its bytes do."""
        ...

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        """Yield these objects."""
        ...

    def put(self, name: str, body: bytes) -> None:
        """Write an object; no earlier version is kept."""
        ...

    def remove(self, name: str) -> None:
        """Delete all versions of an object."""
        ...

    def metadata(self, name: str) -> Mapping[bytes, bytes]:
        """Return the Parquet metadata of an object."""
        ...


@dataclass(frozen=True)
class ArchiveTable:
    """A table: its source objects, the row made of a line, and its columns. Moments are UTC.

    `tokens`: columns that hold tokens of entities, with the form in which they do.
    """

    name: str
    prefix: str
    decoder: Decoder[Any]
    row: Callable[[Any], Row]
    schema: pa.Schema
    tokens: Mapping[str, TokenForm]

    @property
    def table_prefix(self) -> str:
        return f"{TABLES_PREFIX}{self.name}/"

    def key(self, day: str) -> str:
        """Key of the file of a day (`2026-11-23`)."""
        return f"{self.table_prefix}day={day}/part.parquet"


def _event_row(envelope: Envelope) -> Row:
    """Return the row of an event as the bus accepted it; `refused` holds the content of an invalid one."""
    row: Row = {"taken_at": envelope.taken_at}
    try:
        event = read_event(envelope)
    except InvalidInput:
        return row | {"refused": bytes(envelope.detail).decode(errors="replace")}
    return row | {
        "event_id": event.id,
        "type": event.type,
        "occurred_at": event.occurred_at,
        "voided_at": event.voided_at,
        "entities": list(event.entities.items()),
        "data": msgspec.json.encode(event.data).decode(),
        "known_at": event.known_from,
    }


def _decision_row(line: DecisionLine) -> Row:
    record = bytes(line.record)
    try:
        decision = parse_record(record)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise ArchiveDamaged(f"the record of decision {line.id} has an unexpected shape") from error
    same: tuple[str, ...] = (
        "id",
        "merchant_id",
        "livemode",
        "q",
        "decided_at",
        "definition_hash",
        "bundle",
        "policy",
    )
    same += ("score", "cutoff", "outcome", "component", "reasons", "degraded", "propensity")
    checkout = decision.request
    request_fields = {
        "checkout_id": checkout.checkout_id,
        "total": checkout.total,
        "currency": checkout.currency,
    }
    return {name: getattr(decision, name) for name in same} | request_fields | {"record": record.decode()}


def _commit_row(commit: Commit) -> Row:
    return msgspec.structs.asdict(commit) | {"view": commit.key.partition("@")[0]}


def _schema(**kinds: pa.DataType) -> pa.Schema:
    return pa.schema(list(kinds.items()))


_TEXT, _INT, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()

TABLES: Final = (
    ArchiveTable(
        "events",
        EVENTS_PREFIX,
        ENVELOPE,
        _event_row,
        _schema(
            event_id=_TEXT,
            type=_TEXT,
            occurred_at=_MOMENT,
            voided_at=_MOMENT,
            taken_at=_MOMENT,
            entities=pa.map_(_TEXT, _TEXT),
            data=_TEXT,
            refused=_TEXT,
            known_at=_MOMENT,
        ),
        {"entities": "entities", "data": "data", "refused": "text"},
    ),
    ArchiveTable(
        "decisions",
        DECISIONS_PREFIX,
        msgspec.json.Decoder(DecisionLine),
        _decision_row,
        _schema(
            id=_TEXT,
            merchant_id=_TEXT,
            livemode=_FLAG,
            q=_MOMENT,
            decided_at=_MOMENT,
            checkout_id=_TEXT,
            total=_INT,
            currency=_TEXT,
            outcome=_TEXT,
            component=_TEXT,
            reasons=pa.list_(_TEXT),
            score=_REAL,
            cutoff=_REAL,
            propensity=_REAL,
            degraded=_FLAG,
            bundle=_TEXT,
            policy=_TEXT,
            definition_hash=_TEXT,
            record=_TEXT,
        ),
        {"record": "record"},
    ),
    ArchiveTable(
        "commits",
        COMMITS_PREFIX,
        msgspec.json.Decoder(Commit),
        _commit_row,
        _schema(
            view=_TEXT,
            key=_TEXT,
            birth=_INT,
            n=_INT,
            applied_at=_MOMENT,
            event_ids=pa.list_(_TEXT),
            filled_before=_MOMENT,
            rebuilt=_FLAG,
            left_out=_FLAG,
        ),
        {"key": "item key"},
    ),
)
"""All tables. Add columns at the end, and to `stacks/constructs/archive_tables.py`; never change one."""


@dataclass(frozen=True)
class Compacted:
    """Result for one table: days written, kept and removed, and rows written."""

    table: str
    written: int
    kept: int
    removed: int
    rows: int


def day_of(name: str) -> str:
    """Return the day of arrival in an object's key. Raises ArchiveDamaged."""
    match = _DAY.search(name)
    if match is None:
        raise ArchiveDamaged(f"{name}: its key contains no hour of arrival")
    return "-".join(match.groups())


def compact(
    store: Store,
    table: ArchiveTable,
    on_progress: Callable[[int, int], None],
    days: frozenset[str] | None = None,
) -> Compacted:
    """Update a table, or only these days; `on_progress` receives (days done, days in all). Raises ArchiveDamaged."""
    stamps: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, stamp in store.stamps(table.prefix).items():
        stamps[day_of(name)][name] = stamp
    standing = {
        name.removeprefix(f"{table.table_prefix}day=").partition("/")[0]: name
        for name in store.stamps(table.table_prefix)
    }
    due = sorted(day for day in stamps.keys() | standing.keys() if days is None or day in days)
    written = kept = removed = rows = 0
    for number, day in enumerate(due, 1):
        sources = stamps.get(day, {})
        fingerprint = _fingerprint(sources, table)
        if not sources:
            store.remove(standing[day])
            removed += 1
        elif day in standing and store.metadata(standing[day]).get(SOURCES) == fingerprint:
            kept += 1
        else:
            body, count = _parquet(store, table, sorted(sources), fingerprint)
            store.put(table.key(day), body)
            written += 1
            rows += count
        on_progress(number, len(due))
    return Compacted(table.name, written, kept, removed, rows)


def days_of(table: ArchiveTable, names: Iterable[str]) -> frozenset[str]:
    """Return the days whose files derive from these objects."""
    return frozenset(day_of(name) for name in names if name.startswith(table.prefix) and _DAY.search(name))


def forget(store: Store, table: ArchiveTable, days: Iterable[str]) -> None:
    """Remove the files of these days, until `compact` writes them again."""
    for day in days:
        store.remove(table.key(day))


def _fingerprint(sources: Mapping[str, str], table: ArchiveTable) -> bytes:
    """Hash of the sources and the columns: a new column causes a rewrite as well."""
    content = json.dumps([sorted(sources.items()), [str(field) for field in table.schema]])
    return hashlib.sha256(content.encode()).hexdigest().encode()


def _parquet(
    store: Store, table: ArchiveTable, names: Sequence[str], fingerprint: bytes
) -> tuple[bytes, int]:
    schema = table.schema.with_metadata({SOURCES: fingerprint})
    out, count = io.BytesIO(), 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for rows in _pages(read_lines(store.read(names), table.decoder), table.row):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return out.getvalue(), count


def _pages(lines: Iterable[Any], row: Callable[[Any], Row]) -> Iterator[list[Row]]:
    page: list[Row] = []
    for line in lines:
        page.append(row(line))
        if len(page) == AT_A_TIME:
            yield page
            page = []
    if page:
        yield page
