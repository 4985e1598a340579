"""Items made from the archive: a view's new version filled while live events flow, one entity computed anew.

A fill takes in what the updater can never be given again, by one commit that the item remembers; what may still be
redelivered goes the updater's own way, deduplication included. Neither can count an event twice, whatever the updater
writes meanwhile, and both may be cut short anywhere and started again.
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

from candor.clock import SECOND, Clock
from candor.contracts import Event
from candor.errors import CandorError, CorruptItem, StoreUnavailable
from candor.features.definitions import Definitions
from candor.features.event_types import MAX_SKEW
from candor.features.state import RING_IDS, ViewState, id_hash
from candor.features.vector import Read
from candor.features.views import FeatureView
from candor.ingest import ingest
from candor.store.commits import Retention
from candor.store.protocol import Commit, Committed, Conflict, FeatureStore
from history.log import Commit as Logged
from history.log import LogUnusable

ATTEMPTS: Final = 12
"""Writes of one item that lose against the updater before the job gives it up."""

BATCH: Final = 100
"""Events that are given to the updater's path at a time."""

PARTITIONS: Final = 64
"""Files that the archive is spread over by item: each must fit into memory."""

NS_PER_MS: Final = 1_000_000


class NotFillable(CandorError):
    """The item was written before its ids were kept, and the log does not tell which events it holds."""


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """An accepted event, and the moment (ms) when the bus took it."""

    taken_at: int
    event: Event

    @property
    def in_time(self) -> bool:
        """False for one that was dated too far ahead when it came: only a redrive can have applied it."""
        return max(self.event.occurred_at, self.event.voided_at or 0) <= self.taken_at + MAX_SKEW


@dataclass(frozen=True)
class Filling:
    """The filling of one view, as of the moment (ms) when it began: going on later must not draw another line."""

    view: FeatureView
    started_at: int
    retention: Retention

    @property
    def settled_before(self) -> int:
        """What the bus took before this moment (ms) could come for the last time before the filling began."""
        return self.started_at - self.retention.event_ids


@dataclass
class Counts:
    """What became of the items of one file, and of their events."""

    items: int = 0
    filled: int = 0
    before: int = 0
    """Items that an earlier run had filled."""

    events: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Items, and events of the updater's path, that were left as they were, by cause."""

    def __iadd__(self, other: Counts) -> Self:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


def spread(arrivals: Iterable[tuple[int, Event]], view: FeatureView, folder: Path) -> Iterator[int]:
    """Write the view's arrivals into files by item, in order of arrival; yields the arrivals seen so far."""
    encode = msgspec.msgpack.Encoder().encode
    with ExitStack() as files:
        parts = [files.enter_context((folder / f"{part:03}").open("wb")) for part in range(PARTITIONS)]
        for number, (taken_at, event) in enumerate(arrivals, 1):
            key = _item_of(view, event)
            if key is not None:
                line = encode([key, Arrival(taken_at, event)])
                parts[part_of(key)].write(len(line).to_bytes(4, "big") + line)
            yield number


def gathered(path: Path) -> dict[str, list[Arrival]]:
    """One file of `spread`: the arrivals of every item, the first copy of each event alone."""
    decode = msgspec.msgpack.Decoder(tuple[str, Arrival]).decode
    found: defaultdict[str, dict[str, Arrival]] = defaultdict(dict)
    with path.open("rb") as stream:
        while size := stream.read(4):
            key, arrival = decode(stream.read(int.from_bytes(size, "big")))
            found[key].setdefault(arrival.event.dedup_id, arrival)
    return {key: list(copies.values()) for key, copies in found.items()}


def fill(
    filling: Filling,
    arrivals: Mapping[str, Sequence[Arrival]],
    logged: Mapping[str, Sequence[Logged]],
    definitions: Definitions,
    store: FeatureStore,
    clock: Clock,
) -> Counts:
    """Fill items by key. `logged` are their commits so far, which may lack those of the last minutes."""
    counts = Counts(items=len(arrivals))
    recent: list[Event] = []
    for key, mine in arrivals.items():
        counts.events += len(mine)
        settled = [one.event for one in mine if one.taken_at < filling.settled_before]
        recent += (one.event for one in mine if one.taken_at >= filling.settled_before)
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
    filling: Filling,
    key: str,
    settled: Sequence[Event],
    logged: Sequence[Logged],
    store: FeatureStore,
    clock: Clock,
) -> bool:
    """True if this filled the item, False if it had been before."""
    read = store.load([key])[key]
    for _ in range(ATTEMPTS):
        commit = filling_commit(filling, key, read, settled, logged, clock.now_ms())
        if commit is None:
            return False
        match store.commit(commit):
            case Committed():
                return True
            case Conflict(current):
                read = current
    raise StoreUnavailable(f"{ATTEMPTS} conflicting writers on one item")


def filling_commit(
    filling: Filling,
    key: str,
    read: Read,
    settled: Sequence[Event],
    logged: Sequence[Logged],
    now_ms: int,
) -> Commit | None:
    """The one commit that takes in all settled events that the item does not hold yet; None if it was made before.

    Raises NotFillable, StoreUnavailable, CorruptItem.
    """
    state = state_of(filling.view, read)
    if state.filled:
        return None
    held = _held(filling, read, state, logged)
    new = [event for event in settled if event.dedup_id not in held]
    state.replay(event for event in new if id_hash(event.dedup_id) not in state.ring)
    state.filled = True
    return Commit(
        key=key,
        blob=state.encode(),
        seen=read.version,
        event_ids=(),
        applied_at=now_ms,
        expires_at=(now_ms + filling.retention.items) // SECOND,
        filled_before=filling.settled_before,
    )


def _held(filling: Filling, read: Read, state: ViewState, logged: Sequence[Logged]) -> set[str]:
    """Ids that the log says the updater has applied.

    The log lags by minutes. What it lacks the item's ring remembers, and no settled event came after the beginning.
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
    """The commits of one birth from its first on, up to the first that is missing."""
    mine = sorted((commit for commit in logged if commit.birth == birth), key=lambda commit: commit.n)
    return [commit for place, commit in enumerate(mine, 1) if commit.n == place]


def rebuilding_commit(
    view: FeatureView,
    key: str,
    read: Read,
    events: Sequence[Event],
    logged: Sequence[Logged],
    now_ms: int,
    retention: Retention,
) -> Commit:
    """The commit that computes an item anew from `events`, all that its log says it holds.

    Events that were voided are left out, which makes a stale item exact; what can be read of the old item's
    deduplication stays, else the log tells it. Raises NotFillable if nothing stands there.
    """
    if read.version is None:
        raise NotFillable("no item stands there: nothing was applied, or it expired")
    state = ViewState.new(view)
    try:
        old = state_of(view, read)
        state.ring, state.markers = old.ring, old.markers
        state.filled, state.erased_at = old.filled, old.erased_at
    except CorruptItem:
        state.ring = _recent_ids(logged, now_ms - retention.event_ids)
        state.markers = view.entity.hot or len(state.ring) > RING_IDS
        state.filled = any(commit.filled_before for commit in logged)
    replay_anew(state, events)
    return Commit(
        key=key,
        blob=state.encode(),
        seen=read.version,
        event_ids=(),
        applied_at=now_ms,
        expires_at=(now_ms + retention.items) // SECOND,
        rebuilt=True,
    )


def healing_from(view: FeatureView, read: Read) -> int | None:
    """STAND-IN until the state knows it: the version (n) at which the item's healing began; None if it is not healing.

    Here a stale item counts as healing at the version that stands.
    """
    return read.version.n if read.version is not None and state_of(view, read).stale else None


def healing_commit(
    view: FeatureView,  # noqa: ARG001 - a stand-in
    key: str,  # noqa: ARG001
    read: Read,  # noqa: ARG001
    now_ms: int,  # noqa: ARG001
    retention: Retention,  # noqa: ARG001
) -> Commit | None:
    """STAND-IN: the commit that marks an item as healing; None if it is not stale, or healing already."""
    return None


def healed_commit(
    view: FeatureView,
    key: str,
    read: Read,
    events: Sequence[Event],
    logged: Sequence[Logged],
    now_ms: int,
    retention: Retention,
) -> Commit:
    """STAND-IN: the commit that replaces what the item held when its healing began by what `events` make."""
    return rebuilding_commit(view, key, read, events, logged, now_ms, retention)


def replay_anew(state: ViewState, events: Iterable[Event]) -> None:
    """Take events into an empty state without those that were voided: no moment before a void can be answered then."""
    found = list(events)
    left = standing(found)
    if len(left) < len(found):
        state.watermark = max(event.voided_at or 0 for event in found)
        state.folded = True
    state.replay(left)


def standing(events: Iterable[Event]) -> list[Event]:
    """The events without those that were voided; a void whose event is not among them stays."""
    found = list(events)
    voided = {event.id for event in found if event.voided_at is not None}
    both = voided & {event.id for event in found if event.voided_at is None}
    return [event for event in found if event.id not in both]


def _recent_ids(logged: Iterable[Logged], since: int) -> dict[int, int]:
    """A ring of the ids that were applied at `since` (ms) or later."""
    return {
        id_hash(event_id): commit.applied_at // SECOND
        for commit in logged
        if commit.applied_at >= since
        for event_id in commit.event_ids
    }


def held_events(logged: Sequence[Logged], arrivals: Sequence[Arrival]) -> list[Event]:
    """The events that these commits of an item took in, in the order of its versions.

    Raises LogUnusable if the archive lacks one of them.
    """
    by_id = {arrival.event.dedup_id: arrival.event for arrival in arrivals}
    held: dict[str, Event] = {}
    for commit in logged:
        if commit.filled_before is not None:
            for arrival in arrivals:
                if arrival.in_time and arrival.taken_at < commit.filled_before:
                    held.setdefault(arrival.event.dedup_id, arrival.event)
        for event_id in commit.event_ids:
            if event_id not in by_id:
                raise LogUnusable("the archive lacks an event of the log")
            held[event_id] = by_id[event_id]
    return list(held.values())


def state_of(view: FeatureView, read: Read) -> ViewState:
    """The item's state. Raises StoreUnavailable, CorruptItem."""
    if read.state == "unavailable":
        raise StoreUnavailable("the item could not be read")
    return ViewState.new(view) if read.blob is None else ViewState.decode(view, read.blob)


def _item_of(view: FeatureView, event: Event) -> str | None:
    token = event.entities.get(view.entity.name) if event.type in view.event_types else None
    return None if token is None else view.item_key(token, event.id)


def part_of(key: str) -> int:
    """Number of the file that an item's events are spread into."""
    return hashlib.blake2b(key.encode(), digest_size=1).digest()[0] % PARTITIONS
