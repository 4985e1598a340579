"""Backfill of a view's new version from the archive while live events flow.

One commit per item applies the events that can no longer be redelivered; the item remembers it. Events that may still
be redelivered go through the updater, deduplication included. No event is counted twice, whatever the updater writes
meanwhile, and a run may be interrupted and restarted anywhere.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import msgspec

from candor.clock import Clock
from candor.contracts import Event
from candor.errors import CorruptItem, StoreUnavailable
from candor.features.codec import id_hash
from candor.features.definitions import Definitions
from candor.features.state import ViewState
from candor.features.vector import Read
from candor.features.views import FeatureView
from candor.ingest import ingest
from candor.store.protocol import Commit, Committed, Conflict, FeatureStore
from candor.updates import Retention
from history.archive.commits import Commit as Logged
from history.archive.events import Arrival
from history.rebuild.recompute import NotFillable, item_expiry, state_of

ATTEMPTS: Final = 12
"""Writes of one item lost to the updater before the job gives up."""

BATCH: Final = 100
"""Events passed to the updater's code at a time."""

PARTITIONS: Final = 64
"""Files that the archive is partitioned into by item: each must fit into memory."""

NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True)
class Backfill:
    """Backfill of one view as of its start (ms), which a resumed run keeps."""

    view: FeatureView
    started_at: int
    retention: Retention

    @property
    def settled_before(self) -> int:
        """Events that the bus accepted before this time (ms) could not be redelivered after the start."""
        return self.started_at - self.retention.event_ids


@dataclass
class Counts:
    """Results for the items of one file, and for their events."""

    items: int = 0
    filled: int = 0
    before: int = 0
    """Items that an earlier run had filled."""

    events: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Items, and events of the updater's path, that were left unchanged, by cause."""

    def __iadd__(self, other: Counts) -> Self:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


def spread(arrivals: Iterable[Arrival], view: FeatureView, folder: Path) -> Iterator[int]:
    """Partition the view's arrivals into files by item, in order of arrival; yields the number of arrivals read."""
    encode = msgspec.msgpack.Encoder().encode
    with ExitStack() as files:
        parts = [files.enter_context((folder / f"{part:03}").open("wb")) for part in range(PARTITIONS)]
        for number, arrival in enumerate(arrivals, 1):
            key = _item_of(view, arrival.event)
            if key is not None:
                line = encode([key, arrival])
                parts[part_of(key)].write(len(line).to_bytes(4, "big") + line)
            yield number


def gathered(path: Path) -> dict[str, list[Arrival]]:
    """Read one file of `spread`: the arrivals of every item, first copy of each event only."""
    decode = msgspec.msgpack.Decoder(tuple[str, Arrival]).decode
    items: defaultdict[str, dict[str, Arrival]] = defaultdict(dict)
    with path.open("rb") as stream:
        while size := stream.read(4):
            key, arrival = decode(stream.read(int.from_bytes(size, "big")))
            items[key].setdefault(arrival.event.dedup_id, arrival)
    return {key: list(copies.values()) for key, copies in items.items()}


def fill(
    filling: Backfill,
    arrivals: Mapping[str, Sequence[Arrival]],
    logged: Mapping[str, Sequence[Logged]],
    definitions: Definitions,
    store: FeatureStore,
    clock: Clock,
) -> Counts:
    """Fill items by key. `logged`: their commits so far, which may lack those of the last minutes."""
    counts = Counts(items=len(arrivals))
    recent: list[Event] = []
    for key, item_arrivals in arrivals.items():
        counts.events += len(item_arrivals)
        settled = [arrival.event for arrival in item_arrivals if arrival.taken_at < filling.settled_before]
        recent += (arrival.event for arrival in item_arrivals if arrival.taken_at >= filling.settled_before)
        if not settled:
            continue
        try:
            new = _fill_item(filling, key, settled, logged.get(key, ()), store, clock)
        except (NotFillable, StoreUnavailable, CorruptItem) as error:
            counts.failures[str(error)] += 1
            continue
        counts.filled += new
        counts.before += not new
    alone = definitions.only(filling.view)
    for start in range(0, len(recent), BATCH):
        page = recent[start : start + BATCH]
        outcome = ingest(page, alone, store, clock, filling.retention, synchronous_store=store)
        counts.failures.update(outcome.failed.values())
    return counts


def _fill_item(
    filling: Backfill,
    key: str,
    settled: Sequence[Event],
    logged: Sequence[Logged],
    store: FeatureStore,
    clock: Clock,
) -> bool:
    """True if this call filled the item, False if it was filled before."""
    read = store.load([key])[key]
    for _ in range(ATTEMPTS):
        commit = backfill_commit(filling, key, read, settled, logged, clock.now_ms())
        if commit is None:
            return False
        match store.commit(commit):
            case Committed():
                return True
            case Conflict(current):
                read = current
    raise StoreUnavailable(f"{ATTEMPTS} conflicting writers on one item")


def backfill_commit(
    filling: Backfill,
    key: str,
    read: Read,
    settled: Sequence[Event],
    logged: Sequence[Logged],
    now_ms: int,
) -> Commit | None:
    """Return the commit that applies all settled events that the item lacks; None if it was made before.

    Raises NotFillable, StoreUnavailable, CorruptItem.
    """
    state = state_of(filling.view, read)
    if state.filled:
        return None
    held = _held(filling, read, state, logged)
    new = [
        event for event in settled if event.dedup_id not in held and id_hash(event.dedup_id) not in state.ring
    ]
    known = {event.id: event for event in settled if event.voided_at is None}
    unsettled = [
        event.dedup_id
        for event in new
        if event.voided_at is not None and event.id not in known and id_hash(event.id) in state.ring
    ]
    before = {event_id: event for event_id, event in known.items() if event_id in held}
    state.replay(new, now_ms, before, unsettled)
    state.filled = True
    return Commit(
        key=key,
        blob=state.encode(),
        seen=read.version,
        event_ids=(),
        applied_at=now_ms,
        expires_at=item_expiry(filling.view, now_ms),
        filled_before=filling.settled_before,
        unsettled=unsettled,
    )


def _held(filling: Backfill, read: Read, state: ViewState, logged: Sequence[Logged]) -> set[str]:
    """Ids of events that the updater has applied according to the log.

    The log lags by minutes. The item's ring covers the gap, and no settled event arrived after the start.
    """
    if read.version is None:
        return set()
    known = _logged_to(read.version.birth, logged)
    last = known[-1] if known else None
    reached = last.applied_at if last else read.version.birth // NS_PER_MS
    needed = filling.started_at if state.markers else filling.settled_before
    if (last.n if last else 0) < read.version.n and reached < needed:
        raise NotFillable(
            "the log of commits lacks some of this item's: wait until it is delivered, then run this again"
        )
    return {event_id for commit in known for event_id in commit.event_ids}


def _logged_to(birth: int, logged: Sequence[Logged]) -> list[Logged]:
    """Return the commits of one birth from the first on, up to the first gap."""
    commits = sorted((commit for commit in logged if commit.birth == birth), key=lambda commit: commit.n)
    return [commit for number, commit in enumerate(commits, 1) if commit.n == number]


def _item_of(view: FeatureView, event: Event) -> str | None:
    token = event.entities.get(view.entity.name) if event.type in view.event_types else None
    return None if token is None else view.item_key(token, event.id)


def part_of(key: str) -> int:
    """Number of the partition that holds an item's events."""
    return hashlib.blake2b(key.encode(), digest_size=1).digest()[0] % PARTITIONS
