"""Accepted events on disk: objects as the archive keeps them, and partitions by item, each of which fits into memory."""

from __future__ import annotations

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from candor.clock import SECOND, format_rfc3339
from candor.contracts import HISTORY, Event
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from history.archive.events import EVENTS_PREFIX

LINES: Final = 20_000
"""Events per archive object."""

PARTITIONS: Final = 256

_LEVEL: Final = 4


def object_prefix(import_id: str, started_at: int) -> str:
    """Prefix of an import's archive objects: they arrive in the hour in which it began (ms UTC)."""
    hour = datetime.fromtimestamp(started_at / SECOND, UTC)
    return f"{EVENTS_PREFIX}{hour:%Y/%m/%d/%H}/import-{import_id}-"


class EventSpool:
    """Folder of archive objects, in time order. The bus accepts all of their events at `started_at` (ms UTC)."""

    def __init__(self, folder: Path, started_at: int) -> None:
        folder.mkdir()
        self._folder = folder
        moment = format_rfc3339(started_at)
        self._head = f'{{"ingestion_time":"{moment}","event":{{"time":"{moment}","source":"{HISTORY}","detail":'.encode()
        self._lines: list[bytes] = []
        self._objects = 0

    def add(self, detail: bytes) -> None:
        """Append an event's JSON."""
        self._lines.append(b"%b%b}}\n" % (self._head, detail))
        if len(self._lines) == LINES:
            self._flush()

    def close(self) -> list[Path]:
        """Write the last object; returns all of them, in order."""
        if self._lines:
            self._flush()
        return sorted(self._folder.iterdir())

    def _flush(self) -> None:
        self._objects += 1
        data = gzip.compress(b"".join(self._lines), _LEVEL, mtime=0)
        (self._folder / f"{self._objects:06}.gz").write_bytes(data)
        self._lines.clear()


class Partitions:
    """Files of events by item; use it as a context manager while adding."""

    def __init__(self, folder: Path, definitions: Definitions) -> None:
        folder.mkdir()
        self._folder, self._definitions = folder, definitions
        self._numbers = {view: number for number, view in enumerate(definitions.kept)}
        self._encode = msgspec.msgpack.Encoder().encode
        self._files = ExitStack()
        self._parts = [
            self._files.enter_context((folder / f"{part:03}").open("wb")) for part in range(PARTITIONS)
        ]
        self.items: set[bytes] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, event: Event) -> None:
        """Add an event to every item that takes it."""
        for view in self._definitions.views_by_event[event.type]:
            token = event.entities.get(view.entity.name)
            if token is not None:
                key = view.item_key(token, event.id)
                digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
                self.items.add(digest)
                line = self._encode((self._numbers[view], key, event))
                self._parts[digest[0]].write(len(line).to_bytes(4, "big") + line)

    def paths(self) -> list[Path]:
        """Return the files, without empty ones."""
        return [path for path in sorted(self._folder.iterdir()) if path.stat().st_size]


def items_in(path: Path, definitions: Definitions) -> Mapping[tuple[FeatureView, str], list[Event]]:
    """Read one partition: the events of every item in order, the first copy of each."""
    decode = msgspec.msgpack.Decoder(tuple[int, str, Event]).decode
    items: defaultdict[tuple[int, str], dict[str, Event]] = defaultdict(dict)
    for line in _lines(path):
        number, key, event = decode(line)
        items[number, key].setdefault(event.dedup_id, event)
    views = definitions.kept
    return {(views[number], key): list(events.values()) for (number, key), events in items.items()}


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while size := stream.read(4):
            yield stream.read(int.from_bytes(size, "big"))
