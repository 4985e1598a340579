"""An in-memory archive that counts reads, and random events and commits as Firehose would deliver them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from candor.clock import HOUR, MINUTE, format_rfc3339
from candor.contracts import Event, encode_event
from history.archive.objects import Object
from history.index.bucket import Vanished
from history.index.kinds import COMMITS, EVENTS
from history.index.periods import Stamp
from history.rebuild.rebuild import ArchivedItems


class MemoryArchive:
    """Objects by name; `gets`, `listings` and `bytes_read` count the cost of readers."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gets = self.listings = self.bytes_read = 0

    def stamps(self, prefix: str, after: str = "") -> Iterator[Stamp]:
        self.listings += 1
        for name in sorted(name for name in self.objects if name.startswith(prefix) and name > after):
            body = self.objects[name]
            yield Stamp(name, hashlib.md5(body).hexdigest(), len(body))

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        for name in names:
            yield name, self._counted(self.objects[name])

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        body = self._body(name)
        return self._counted(body[-size:]), len(body)

    def span(self, name: str, start: int, end: int) -> io.BytesIO:
        return io.BytesIO(self._counted(self._body(name)[start:end]))

    def put(self, name: str, body: Any) -> None:
        self.objects[name] = body.read()

    def remove(self, name: str) -> None:
        self.objects.pop(name, None)

    def _body(self, name: str) -> bytes:
        if name not in self.objects:
            raise Vanished("try again")
        return self.objects[name]

    def _counted(self, body: bytes) -> bytes:
        self.gets += 1
        self.bytes_read += len(body)
        return body

    # Firehose's side

    def deliver(self, prefix: str, at: int, lines: Sequence[bytes], name: str = "a") -> str:
        """Deliver one object of lines that arrived at a moment (ms)."""
        moment = datetime.fromtimestamp(at / 1000, UTC)
        key = f"{prefix}{moment:%Y/%m/%d/%H}/stream-1-{moment:%Y-%m-%d-%H-%M-%S}-{name}.gz"
        self.objects[key] = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
        return key

    def names(self, prefix: str) -> list[str]:
        return [name for name in sorted(self.objects) if name.startswith(prefix)]

    def every(self, prefix: str) -> list[Object]:
        return [(name, self.objects[name]) for name in self.names(prefix)]


def envelope(event: Event, taken_at: int, **more: Any) -> bytes:
    """Return the line of an event, with the bus's stamp or in the format from before it was recorded."""
    detail = json.loads(encode_event(event))
    bare = {"time": format_rfc3339(taken_at), "detail": detail, **more}
    stamped = {"ingestion_time": format_rfc3339(taken_at), "event": bare}
    return json.dumps(stamped if len(event.id) % 2 else bare).encode()


def commit_line(key: str, n: int, at: int, event_ids: Sequence[str]) -> bytes:
    return json.dumps(
        {"key": key, "birth": 1, "n": n, "applied_at": at, "event_ids": list(event_ids)}
    ).encode()


def fill(
    archive: MemoryArchive, definitions: Any, rng: random.Random, hours: Sequence[int], tokens: int
) -> None:
    """Deliver events and commits of random entities in these hours (since 1970), with duplicates and invalid lines."""
    for hour in hours:
        for delivery in range(rng.randrange(1, 4)):
            at = hour * HOUR + rng.randrange(60) * MINUTE
            events, commits = [], []
            for event_number in range(rng.randrange(1, 8)):
                entities = {"customer": f"cus_{rng.randrange(tokens)}", "shop": f"sh#op/{rng.randrange(3)}"}
                if rng.random() < 0.2:
                    del entities["shop"]
                event_id = (
                    f"e{hour}-{delivery}-{event_number}" if rng.random() < 0.9 else f"e{rng.randrange(20)}"
                )
                event = Event(event_id, "payment.succeeded", at, entities, {"amount": rng.randrange(100)})
                events.append(envelope(event, at))
                for view in definitions.views:
                    if view.entity.name in entities:
                        key = view.item_key(entities[view.entity.name], event.id)
                        commits.append(commit_line(key, rng.randrange(50), at, [event.dedup_id]))
            events.append(
                rng.choice([b"", b'{"time": "2027-01-01T00:00:00Z", "detail": {"of": "old"}}', events[0]])
            )
            rng.shuffle(commits)
            archive.deliver(EVENTS.prefix, at, events, str(delivery))
            archive.deliver(COMMITS.prefix, at, commits, str(delivery))


def whole(archive: MemoryArchive, definitions: Any, keys: Iterable[str]) -> ArchivedItems:
    """Return the items as read from the whole archive."""
    memory = ArchivedItems(keys, definitions)
    memory.read(archive.every(EVENTS.prefix), archive.every(COMMITS.prefix))
    return memory
