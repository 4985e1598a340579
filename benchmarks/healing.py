"""Index of the archive: cost of indexing a million events and their commits, and of reading one entity's history."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import resource
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import IO, Final

import msgspec

from benchmarks.rounds import Measurement
from benchmarks.update import QUARTER, aggregations, payments_view
from candor import Definitions
from candor.clock import DAY, HOUR, MINUTE, format_rfc3339
from history.archive.objects import Object
from history.index.history import EntityHistory
from history.index.kinds import COMMITS, EVENTS, KINDS, Kind
from history.index.periods import Stamp
from history.index.read import ArchiveIndex
from history.index.refresh import refresh

MOST: Final = 1_000_000
BUSY_HOUR: Final = 42_000
"""Events of an hour at a million a day."""

CUSTOMERS: Final = 33_000
MERCHANTS: Final = 20
VIEWS: Final = 4
"""Items that an event changes: each writes a line of the log."""

OBJECT_MS: Final = 5 * MINUTE
"""Time span of one object: an archive that Firehose writes by the minute has five times as many."""

VIEW = payments_view(aggregations(), QUARTER)
DEFINITIONS = Definitions(entities=[VIEW.entity], events=VIEW.events, views=[VIEW])
END: Final = 1_796_000_400_000 // DAY * DAY
PEAK_UNIT: Final = 1024


class MemoryArchive:
    """Archive in memory that counts reads and bytes."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gets = self.bytes_read = 0
        self._tags: dict[str, str] = {}

    def add(self, name: str, body: bytes) -> None:
        self.objects[name] = body
        self._tags[name] = hashlib.blake2b(body, digest_size=16).hexdigest()

    def stamps(self, prefix: str, after: str = "") -> Iterator[Stamp]:
        names = sorted(name for name in self.objects if name.startswith(prefix) and name > after)
        return (Stamp(name, self._tags[name], len(self.objects[name])) for name in names)

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        return ((name, self._counted(self.objects[name])) for name in names)

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        body = self.objects[name]
        return self._counted(body[-size:]), len(body)

    def span(self, name: str, start: int, end: int) -> IO[bytes]:
        return io.BytesIO(self._counted(self.objects[name][start:end]))

    def put(self, name: str, body: IO[bytes]) -> None:
        self.add(name, body.read())

    def remove(self, name: str) -> None:
        self.objects.pop(name, None)

    def _counted(self, body: bytes) -> bytes:
        self.gets += 1
        self.bytes_read += len(body)
        return body


def measure() -> Iterator[Measurement]:
    """CPU of indexing and of reading one entity, GETs and bytes; the network excluded."""
    archive = MemoryArchive()
    fill(archive, END - 90 * DAY, 90 * DAY, MOST)
    raw = sum(map(len, archive.objects.values()))
    began = time.process_time()
    lines = sum(refresh(archive, kind, END + HOUR, whole=True).lines for kind in KINDS)
    yield _row(f"{MOST:,} events, {lines:,} lines: first index, CPU", time.process_time() - began, "s")
    yield _row("peak memory of that process", _peak(), "MB")
    index = sum(len(body) for name, body in archive.objects.items() if name.startswith("index/"))
    yield _row("archive, gzip'd", raw / 1e6, "MB")
    yield _row("index", index / 1e6, "MB")
    reader = ArchiveIndex(archive)
    yield from _entity(archive, reader, "app_7", "an ordinary customer, first read")
    yield from _entity(archive, reader, "app_8", "another, directories known")
    yield from _hours(archive)


def _entity(archive: MemoryArchive, reader: ArchiveIndex, token: str, name: str) -> Iterator[Measurement]:
    archive.gets = archive.bytes_read = 0
    began = time.process_time()
    [key] = VIEW.item_keys(token)
    history = EntityHistory(reader, DEFINITIONS, {key: VIEW})
    history.update()
    spent = time.process_time() - began
    if not history.memory.items[key] or not history.memory.log.of(key):
        raise RuntimeError(f"{name}: nothing was found")
    yield _row(f"{name}: CPU", spent * 1_000, "ms")
    yield _row(f"{name}: GETs", archive.gets, "")
    yield _row(f"{name}: read", archive.bytes_read / 1e6, "MB")


def _hours(archive: MemoryArchive) -> Iterator[Measurement]:
    """Index one more hour, as the schedule does: of that archive, and of one with a million events a day."""
    for name, count in (("an hour", MOST // (90 * 24)), ("a busy hour", BUSY_HOUR)):
        archive.objects = {key: body for key, body in archive.objects.items() if key.startswith("index/")}
        fill(archive, END, HOUR, count)
        began = time.process_time()
        for kind in KINDS:
            refresh(archive, kind, END + HOUR + 15 * MINUTE)
        yield _row(f"{name} of {count:,} events: CPU", time.process_time() - began, "s")


def fill(archive: MemoryArchive, start: int, length: int, count: int) -> None:
    """Add `count` events and their commits, spread evenly over `length` ms, as Firehose writes them."""
    rng = random.Random(start)
    versions: defaultdict[str, int] = defaultdict(int)
    moments = (start + number * length // count for number in range(count))
    for number, group in groupby(moments, key=lambda moment: moment // OBJECT_MS):
        events, commits = [], []
        for moment in group:
            event_id, who = f"evt_{rng.getrandbits(104):026x}", f"app_{rng.randrange(CUSTOMERS)}"
            events.append(_event(event_id, who, moment, rng))
            for view in range(VIEWS):
                key = VIEW.item_keys(who)[0] if view == 0 else f"view_{view}@0123abcd#{who}"
                versions[key] += 1
                commits.append(_commit(key, versions[key], moment, event_id))
        _deliver(archive, EVENTS, number * OBJECT_MS, events)
        _deliver(archive, COMMITS, number * OBJECT_MS, commits)


def _event(event_id: str, who: str, moment: int, rng: random.Random) -> bytes:
    merchant = f"mer_{rng.randrange(MERCHANTS)}"
    detail = {
        "event_id": event_id,
        "type": "payment.failed" if rng.random() < 0.1 else "payment.succeeded",
        "occurred_at": format_rfc3339(moment),
        "entities": {"customer": who, "merchant": merchant, "device": f"dev_{rng.randrange(CUSTOMERS)}"},
        "data": {"amount": rng.randrange(100, 100_000), "category": f"category-{rng.randrange(12)}"},
        "schema_version": 1,
    }
    envelope = {
        "version": "0",
        "id": f"{rng.getrandbits(128):032x}",
        "detail-type": "event",
        "source": "candor.lender",
        "account": "123456789012",
        "time": format_rfc3339(moment + 1_000),
        "region": "eu-central-1",
        "resources": [],
        "detail": detail,
    }
    return msgspec.json.encode(envelope)


def _commit(key: str, n: int, moment: int, event_id: str) -> bytes:
    birth = (END - 90 * DAY) * 1_000_000
    return msgspec.json.encode(
        {"key": key, "birth": birth, "n": n, "applied_at": moment + 2_000, "event_ids": [event_id]}
    )


def _deliver(archive: MemoryArchive, kind: Kind, at: int, lines: Sequence[bytes]) -> None:
    moment = datetime.fromtimestamp(at / 1000, UTC)
    name = f"{kind.prefix}{moment:%Y/%m/%d/%H}/stream-1-{moment:%Y-%m-%d-%H-%M-%S}-{at}.gz"
    archive.add(name, gzip.compress(b"".join(line + b"\n" for line in lines), compresslevel=6))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT / 1e6


def _row(name: str, value: float, unit: str) -> Measurement:
    return Measurement("healing", name, value, unit=unit)
