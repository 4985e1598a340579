"""Online side: deliveries in order of arrival through `ingest`, and every hour a read of all active entities.

Entities are partitioned among processes as among consumers: each process takes the deliveries that name one of its
customers or terminals, and applies and reads these entities alone.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import engine
from benchmarks.fleet import Report
from benchmarks.fraud_handbook import stream
from benchmarks.fraud_handbook.definitions import DEFINITIONS, VALUES, VIEWS
from benchmarks.fraud_handbook.stream import ARRIVALS, Columns
from benchmarks.reading import read_values
from candor.clock import DAY, HOUR, FixedClock
from candor.contracts import Event
from candor.ingest import ingest
from candor.store.memory import MemoryFeatureStore
from candor.store.protocol import FeatureStore
from candor.updates import Retention

RETENTION = Retention(event_ids=20 * DAY)
BATCH = 100
"""Deliveries in one call of `ingest`: what the deployed function takes from its queue."""

ROWS_PER_GROUP = 100_000
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("entity", pa.int64()),
        ("q", pa.int64()),
        *((name, pa.float64()) for name in VALUES),
    ]
)


@dataclass
class Work:
    """Result of one process; CPU in ns, memory in bytes."""

    reads: int = 0
    ingest_ns: int = 0
    read_ns: int = 0
    whole_ns: int = 0
    peak_bytes: int = 0
    item_bytes: dict[str, list[int]] = field(default_factory=dict)
    """Sizes of the stored blobs in the end, by kind of entity: p50, p99, largest."""


@dataclass(frozen=True)
class EntityPart:
    """One of `of` equal parts of all entities."""

    number: int
    of: int

    def holds(self, entities: Any) -> Any:
        """Mask of the entities that belong to the part."""
        return entities % self.of == self.number


@dataclass(frozen=True)
class PartJob:
    """Part of a process, its store ("memory" or "dynoxide") and the folder with arrivals.parquet."""

    part: EntityPart
    store: str
    folder: Path


def work(job: PartJob, report: Report) -> Work:
    """Ingest and read one part hour by hour; writes `online/<part>.parquet`."""
    began, work_done = time.process_time_ns(), Work()
    store: FeatureStore = engine.store() if job.store == "dynoxide" else MemoryFeatureStore()
    everything = stream.read(job.folder / ARRIVALS)
    deliveries = stream.rows(everything, _named(everything, job.part))
    entities_by_hour = {kind: _entities_by_hour(everything, kind, job.part) for kind in VIEWS}
    (job.folder / "online").mkdir(exist_ok=True)
    with closing(_Answers(job.folder / "online" / f"{job.part.number}.parquet")) as answers:
        for q, due in _hours(deliveries["arrival"]):
            for start in range(due.start, due.stop, BATCH):
                _ingest(deliveries, slice(start, min(start + BATCH, due.stop)), job.part, store, work_done)
            report(due.stop - due.start)
            for kind, entities_at in entities_by_hour.items():
                _read(kind, entities_at.get(q, []), q, store, answers, work_done)
    work_done.whole_ns = time.process_time_ns() - began
    work_done.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    work_done.item_bytes = {kind: _sizes(kind, everything, job.part, store) for kind in VIEWS}
    return work_done


def deliveries_of(columns: Columns, part: EntityPart) -> int:
    """Number of deliveries that name an entity of the part."""
    return int(_named(columns, part).sum())


def _named(columns: Columns, part: EntityPart) -> Any:
    return part.holds(columns["customer"]) | part.holds(columns["terminal"])


def _hours(arrivals: np.ndarray) -> Iterator[tuple[int, range]]:
    """End of every hour, and the positions of its arrivals."""
    first, last = int(arrivals[0]) // HOUR, int(arrivals[-1]) // HOUR
    position = 0
    for hour in range(first, last + 2):
        end = int(np.searchsorted(arrivals, hour * HOUR, side="right"))
        yield hour * HOUR, range(position, end)
        position = end


def _entities_by_hour(deliveries: Columns, kind: str, part: EntityPart) -> dict[int, list[int]]:
    """End of an hour → entities with an event that occurred or arrived in it."""
    in_part = part.holds(deliveries[kind])
    entities = deliveries[kind][in_part]
    occurred = (deliveries["occurred_at"][in_part] // HOUR + 1) * HOUR
    arrived = -(-deliveries["arrival"][in_part] // HOUR) * HOUR
    pairs = np.unique(
        np.stack([np.concatenate([occurred, arrived]), np.concatenate([entities, entities])]), axis=1
    )
    hours, starts = np.unique(pairs[0], return_index=True)
    return {int(q): group.tolist() for q, group in zip(hours, np.split(pairs[1], starts[1:]), strict=True)}


def _ingest(columns: Columns, rows: slice, part: EntityPart, store: FeatureStore, done: Work) -> None:
    events = list(_events({name: column[rows].tolist() for name, column in columns.items()}, part))
    clock = FixedClock(int(columns["arrival"][rows][-1]))
    while events:
        began = time.process_time_ns()
        outcome = ingest(events, DEFINITIONS, store, clock, RETENTION)
        done.ingest_ns += time.process_time_ns() - began
        if outcome.refused:
            raise SystemExit(f"an event was refused: {next(iter(outcome.refused.values()))}")
        events = [event for event in events if event.id in outcome.failed]


def _events(columns: Mapping[str, list[int]], part: EntityPart) -> Iterator[Event]:
    for occurred_at, transaction, customer, terminal, amount, fraud in zip(
        *(
            columns[name]
            for name in ("occurred_at", "transaction", "customer", "terminal", "amount", "fraud")
        ),
        strict=True,
    ):
        named = {"customer": customer, "terminal": terminal}
        own = {kind: str(number) for kind, number in named.items() if number % part.of == part.number}
        yield Event(f"tx_{transaction}", "card.used", occurred_at, own, {"amount": amount, "fraud": fraud})


def _read(kind: str, entities: list[int], q: int, store: FeatureStore, answers: _Answers, done: Work) -> None:
    began = time.process_time_ns()
    rows = read_values(VIEWS[kind], [str(entity) for entity in entities], q, store)
    done.read_ns += time.process_time_ns() - began
    done.reads += len(entities)
    for entity, values in zip(entities, rows, strict=True):
        answers.add(kind, entity, q, values)


def _sizes(kind: str, deliveries: Columns, part: EntityPart, store: FeatureStore) -> list[int]:
    """Sizes (bytes) of the part's stored items: p50, p99, largest."""
    entities = np.unique(deliveries[kind])
    in_part = entities[part.holds(entities)].tolist()
    keys = [key for entity in in_part for key in VIEWS[kind].item_keys(str(entity))]
    sizes = [len(read.blob or b"") for read in store.load(keys).values()]
    return [round(size) for size in np.percentile(sizes, [50, 99, 100], method="nearest")]


class _Answers:
    """Writer of a Parquet file, row group by row group, as the rows do not fit in memory."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._rows: list[tuple[str, int, int, *tuple[float, ...]]] = []

    def add(self, kind: str, entity: int, q: int, values: Sequence[float]) -> None:
        self._rows.append((kind, entity, q, *values))
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(SCHEMA)
        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=SCHEMA))
        self._rows.clear()

    def close(self) -> None:
        self._flush()
        self._writer.close()
