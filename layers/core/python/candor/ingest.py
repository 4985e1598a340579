"""Event path: group by (view, entity), then one read, apply and conditional write per group."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import msgspec

from candor.clock import Clock
from candor.contracts import Event
from candor.errors import CorruptItem, InvalidInput, StoreUnavailable
from candor.features.definitions import Definitions
from candor.features.size import LARGEST_IDS, RING_IDS, listed_bytes
from candor.features.state import Applied
from candor.features.vector import Read
from candor.features.views import FeatureView
from candor.store.protocol import (
    MARKERS_PER_COMMIT,
    Committed,
    Conflict,
    Duplicates,
    FeatureStore,
    events_per_commit,
)
from candor.updates import Retention, prepare

ATTEMPTS = 12
"""Attempts on a contended item before its events are left to redelivery."""


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter, used after write conflicts.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. `draw` returns a number in [0,
    1).
    """

    first_s: float = 0.05
    longest_s: float = 0.8
    draw: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep

    def wait(self, conflicts: int) -> None:
        """Sleep after `conflicts` consecutive conflicts."""
        self.sleep(min(self.longest_s, self.first_s * 2 ** (conflicts - 1)) * self.draw())


BACKOFF = Backoff()


@dataclass(frozen=True)
class IngestOutcome:
    """Result of a batch.

    `refused`: permanent errors by position in the batch. `failed`: retryable causes by `dedup_id`. Excluded from some
    view, by `dedup_id`: `too_late`, older than all its windows, and `erased`, of an entity erased after the event
    occurred. `stale`: keys of items that became stale, to be healed from the archive.
    """

    refused: Mapping[int, InvalidInput]
    failed: Mapping[str, str]
    too_late: frozenset[str] = frozenset()
    erased: frozenset[str] = frozenset()
    stale: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ItemEvents:
    """Events to apply to one item, and the store that holds it.

    `claimant` names the bulk job that applies them, in larger pages; empty for the updater.
    """

    view: FeatureView
    key: str
    store: FeatureStore
    events: Sequence[Event]
    claimant: str = ""


@dataclass(frozen=True)
class _Written:
    """Result of a group: the cause of its failure, or the `Applied` of each page."""

    cause: str | None
    applied: Sequence[Applied] = ()


def ingest(
    events: Iterable[Event],
    definitions: Definitions,
    store: FeatureStore,
    clock: Clock,
    retention: Retention,
    *,
    synchronous_store: FeatureStore | None = None,
    writers: int = 1,
) -> IngestOutcome:
    """Apply each event exactly once to every view that takes it; up to `writers` items are written concurrently.

    `clock` bounds how far ahead events may be dated, and stamps applied ids; `retention` is how long ids are kept.
    Items of synchronous views are in `synchronous_store`, or in `store`. Invalid events and unreadable items are
    reported in the outcome, not raised. An event is failed if any of its groups failed; redelivery is safe because
    the other groups know its id.
    """
    accepted, refused = _checked(events, definitions, clock.now_ms())
    groups = list(_groups(accepted, definitions, store, synchronous_store or store))
    reads = _reads(groups)

    def written(group: ItemEvents) -> _Written:
        try:
            return _Written(None, apply_events(group, reads[group.key], clock.now_ms(), retention))
        except (StoreUnavailable, CorruptItem) as cause:
            return _Written(str(cause))

    with ThreadPoolExecutor(writers) as pool:
        results = list(pool.map(written, groups))
    failed = {
        event.dedup_id: result.cause
        for group, result in zip(groups, results, strict=True)
        if result.cause is not None
        for event in group.events
    }
    applied = [page for result in results for page in result.applied]
    return IngestOutcome(
        refused,
        failed,
        too_late=frozenset(event.dedup_id for page in applied for event in page.too_late),
        erased=frozenset(event.dedup_id for page in applied for event in page.erased),
        stale=frozenset(
            group.key
            for group, result in zip(groups, results, strict=True)
            if any(page.went_stale for page in result.applied)
        ),
    )


def _checked(
    events: Iterable[Event], definitions: Definitions, now_ms: int
) -> tuple[list[Event], dict[int, InvalidInput]]:
    accepted: list[Event] = []
    refused: dict[int, InvalidInput] = {}
    for place, event in enumerate(events):
        try:
            definitions.check_event(event, now_ms)
            accepted.append(event)
        except InvalidInput as reason:
            refused[place] = reason
    return accepted, refused


def _groups(
    events: Iterable[Event], definitions: Definitions, store: FeatureStore, synchronous: FeatureStore
) -> Iterator[ItemEvents]:
    """Group events by item."""
    grouped: dict[tuple[FeatureView, str], list[Event]] = defaultdict(list)
    for event in events:
        for view in definitions.views_by_event[event.type]:
            entity_key = event.entities.get(view.entity.name)
            if entity_key is not None:
                grouped[view, view.item_key(entity_key, event.id)].append(event)
    for (view, key), item_events in grouped.items():
        yield ItemEvents(view, key, synchronous if view.synchronous else store, item_events)


def _reads(groups: Iterable[ItemEvents]) -> dict[str, Read]:
    """Current items by key, with one read per store."""
    keys: dict[FeatureStore, list[str]] = defaultdict(list)
    for group in groups:
        keys[group.store].append(group.key)
    return {key: read for store, wanted in keys.items() for key, read in store.load(wanted).items()}


def apply_events(group: ItemEvents, read: Read, now_ms: int, retention: Retention) -> list[Applied]:
    """Apply events to their item as read, each exactly once; returns the result of each commit.

    A commit fits one DynamoDB transaction. Raises StoreUnavailable, CorruptItem: earlier commits stand.
    """
    applied: list[Applied] = []
    for number, events in enumerate(_pages(group)):
        claimant = f"{group.claimant}/{number}" if group.claimant else ""
        page = replace(group, events=events, claimant=claimant)
        read, page_applied = _commit(page, read, now_ms, retention)
        applied.append(page_applied)
    return applied


def _pages(group: ItemEvents) -> Iterator[Sequence[Event]]:
    if group.claimant:
        yield from _claimed_pages(group.events)
        return
    size = min(MARKERS_PER_COMMIT, events_per_commit(group.key, (event.id for event in group.events)))
    for start in range(0, len(group.events), size):
        yield group.events[start : start + size]


def _claimed_pages(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """The ids that an item's ring holds, then as many events as a commit has room to list.

    The pages depend on the events alone: a repeated job must find the same ones.
    """
    if events[:RING_IDS]:
        yield events[:RING_IDS]
    start, size = RING_IDS, 0
    for place, event in enumerate(events[RING_IDS:], RING_IDS):
        length = listed_bytes(event.dedup_id)
        if size + length > LARGEST_IDS:
            yield events[start:place]
            start, size = place, 0
        size += length
    if events[start:]:
        yield events[start:]


def _commit(group: ItemEvents, read: Read, now_ms: int, retention: Retention) -> tuple[Read, Applied]:
    """Apply and write one page, retrying on conflicts; returns the item as written, and what was applied."""
    events, conflicts = group.events, 0
    while conflicts < ATTEMPTS:
        prepared = prepare(group.view, group.key, read, events, now_ms, retention, group.store.markers)
        applied = prepared.applied
        if len(events) < len(group.events):  # duplicates, by their markers
            applied = applied._replace(went_stale=prepared.state.stale)
        if prepared.commit is None:
            return read, applied
        match group.store.commit(msgspec.structs.replace(prepared.commit, claimant=group.claimant)):
            case Committed(version):
                return Read("present", prepared.commit.blob, version), applied
            case Conflict():
                conflicts += 1
                if conflicts < ATTEMPTS:
                    BACKOFF.wait(conflicts)
                    # Under contention the item of the conflict is outdated again by now.
                    read = group.store.load([group.key])[group.key]
            case Duplicates(known):  # no conflict: fewer events are left
                events = [event for event in events if event.dedup_id not in known]
                # Their writer may have made the item stale and crashed before reporting it.
                read = group.store.load([group.key])[group.key]
    raise StoreUnavailable(f"{ATTEMPTS} conflicting writers on one item")
