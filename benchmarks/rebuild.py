"""The rebuild of an online store from the archive: a million events, 30 aggregations, two processes."""

from __future__ import annotations

import gzip
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks import fleet
from benchmarks.rounds import Measurement
from benchmarks.update import QUARTER, RETENTION, START, aggregations, payments_view
from candor import Definitions
from candor.clock import DAY, FixedClock, format_rfc3339
from candor.store.memory import MemoryFeatureStore
from history.archive.events import arrivals, read_envelopes
from history.rebuild.backfill import Backfill, fill, gathered, spread

EVENTS = 1_000_000
CUSTOMERS = 33_000
"""Thirty events each in a quarter."""

PROCESSES = 2
PER_FILE = 50_000
BUDGET_S = 600

VIEW = payments_view(aggregations(), QUARTER)
DEFINITIONS = Definitions(entities=[VIEW.entity], events=VIEW.events, views=[VIEW])

LATER = START + 200 * DAY
"""Moment after which nothing is redelivered."""

REPORTED = 10_000

Job = tuple[tuple[Path, Path], int]
"""The folders of the archive and of the files by item, and which process of `PROCESSES` this is."""


def measure() -> Iterator[Measurement]:
    """Seconds from archive files to committed items in memory by the backfill's own steps, the network excluded."""
    with tempfile.TemporaryDirectory() as archive, tempfile.TemporaryDirectory() as parts:
        folders = (Path(archive), Path(parts))
        jobs = [(folders, part) for part in range(PROCESSES)]
        fleet.run(write_part, jobs, title="archive", total=EVENTS)
        began = time.perf_counter()
        spent = fleet.run(spread_all, jobs[:1], title="spread", total=EVENTS)
        spent += fleet.run(fill_part, jobs, title="fill", total=EVENTS)
        seconds = time.perf_counter() - began
    yield Measurement(
        "rebuild", f"{EVENTS:,} events on {PROCESSES} cores, elapsed", seconds, budget=BUDGET_S, unit="s"
    )
    yield Measurement("rebuild", "CPU of each event", sum(spent) / EVENTS / 1_000)


def write_part(job: Job, report: fleet.Report) -> None:
    """Write a part of the archive, as Firehose does."""
    (archive, _), part = job
    rng = random.Random(part)
    for number in range(part, EVENTS // PER_FILE, PROCESSES):
        with gzip.open(archive / f"{number:04}.gz", "wb", compresslevel=1) as file:
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


def spread_all(job: Job, report: fleet.Report) -> int:
    """Read and check the archive once, and put each item's events into one file; returns CPU ns."""
    (archive, parts), _ = job
    began = time.process_time_ns()
    seen = 0
    for seen in spread(arrivals(read_envelopes(archive), DEFINITIONS), VIEW, parts):
        if seen % REPORTED == 0:
            report(REPORTED)
    if seen != EVENTS:
        raise RuntimeError(f"{seen:,} of {EVENTS:,} events were accepted")
    return time.process_time_ns() - began


def fill_part(job: Job, report: fleet.Report) -> int:
    """Fill the items of every second file; returns CPU ns."""
    (_, parts), number = job
    began = time.process_time_ns()
    store = MemoryFeatureStore()
    filling = Backfill(VIEW, LATER, RETENTION)
    for path in sorted(parts.iterdir())[number::PROCESSES]:
        counts = fill(filling, gathered(path), {}, DEFINITIONS, store, FixedClock(LATER))
        if counts.failures or counts.filled != counts.items:
            raise RuntimeError(f"{path.name}: {counts}")
        report(counts.events)
    return time.process_time_ns() - began
