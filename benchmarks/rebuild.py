"""The rebuild of an online store from the archive: a million events, 30 aggregations, two processes."""

from __future__ import annotations

import gzip
import random
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks import fleet
from benchmarks.rounds import Row
from benchmarks.update import QUARTER, RETENTION, START, aggregations, payments_view
from candor import Definitions
from candor.clock import DAY, format_rfc3339
from candor.contracts import Event
from candor.features.vector import Read
from candor.store.commits import prepare
from candor.store.memory import MemoryFeatureStore
from history.archive import accepted_events, read_envelopes

EVENTS = 1_000_000
CUSTOMERS = 33_000
"""Thirty events each in a quarter."""

PROCESSES = 2
PER_FILE = 50_000
BUDGET_S = 600

VIEW = payments_view(aggregations(), QUARTER)
DEFINITIONS = Definitions(entities=[VIEW.entity], events=VIEW.events, views=[VIEW])

Job = tuple[str, int]
"""The archive's folder, and which of the customers: those whose hash leaves this remainder."""


def measure() -> Iterator[Row]:
    """Seconds from archive files to committed items in memory, the network excluded."""
    with tempfile.TemporaryDirectory() as folder:
        fleet.run(write_part, [(folder, part) for part in range(PROCESSES)], title="archive", total=EVENTS)
        began = time.perf_counter()
        jobs = [(folder, part) for part in range(PROCESSES)]
        spent = fleet.run(rebuild_part, jobs, title="rebuild", total=EVENTS)
        seconds = time.perf_counter() - began
    yield Row(
        "rebuild", f"{EVENTS:,} events on {PROCESSES} cores, elapsed", seconds, budget=BUDGET_S, unit="s"
    )
    yield Row("rebuild", "CPU of each event", sum(spent) / EVENTS / 1_000)


def write_part(job: Job, report: fleet.Report) -> None:
    """A part of the archive, as Firehose writes it."""
    folder, part = job
    rng = random.Random(part)
    for number in range(part, EVENTS // PER_FILE, PROCESSES):
        with gzip.open(Path(folder) / f"{number:04}.gz", "wb", compresslevel=1) as file:
            for place in range(PER_FILE):
                file.write(_line(number * PER_FILE + place, rng))
        report(PER_FILE)


def _line(number: int, rng: random.Random) -> bytes:
    occurred_at = START + number * (90 * DAY // EVENTS)
    detail = {
        "event_id": f"evt_{rng.getrandbits(104):026x}",
        "type": "payment.failed" if rng.random() < 0.1 else "payment.succeeded",
        "occurred_at": format_rfc3339(occurred_at),
        "entities": {"customer": f"app_{rng.randrange(CUSTOMERS)}"},
        "data": {"amount": rng.randrange(100, 100_000), "category": f"category-{rng.randrange(12)}"},
    }
    envelope = {"version": "0", "time": format_rfc3339(occurred_at + 1_000), "detail": detail}
    return msgspec.json.encode(envelope) + b"\n"


def rebuild_part(job: Job, report: fleet.Report) -> int:
    """CPU ns of this part's customers: read all, keep one's own, apply each customer's events at once, commit."""
    folder, part = job
    began = time.process_time_ns()
    by_entity: dict[str, list[Event]] = defaultdict(list)
    for event in accepted_events(read_envelopes(Path(folder)), DEFINITIONS):
        entity = event.entities[VIEW.entity.name]
        if zlib.crc32(entity.encode()) % PROCESSES == part:
            by_entity[entity].append(event)
    store = MemoryFeatureStore()
    for entity, events in by_entity.items():
        key = VIEW.item_keys(entity)[0]
        commit = prepare(VIEW, key, Read("absent"), events, events[-1].occurred_at, RETENTION).commit
        assert commit is not None
        store.commit(commit)
        report(len(events))
    return time.process_time_ns() - began
