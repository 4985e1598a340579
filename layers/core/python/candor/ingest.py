"""The whole event path: group by (view, entity), then one read, apply and conditional write for each group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from candor.clock import SECOND, Clock
from candor.contracts import Event
from candor.errors import CorruptItem, InvalidInput, StoreUnavailable
from candor.features.state import ViewState
from candor.features.vector import Read
from candor.features.views import Definitions, FeatureView
from candor.store.protocol import MARKERS_PER_COMMIT, Commit, Committed, Conflict, Duplicates, FeatureStore

ATTEMPTS = 12
"""Conflicts on one item before its events are left to redelivery."""


@dataclass(frozen=True)
class Retention:
    """How long things are kept, ms of wall clock: items after their last event, event ids for deduplication."""

    items: int
    event_ids: int


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: refused for good with the reason, by place; failed for now with the cause, by event id."""

    refused: Mapping[int, InvalidInput]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class _Group:
    view: FeatureView
    key: str
    events: Sequence[Event]


def ingest(
    events: Iterable[Event],
    definitions: Definitions,
    store: FeatureStore,
    clock: Clock,
    retention: Retention,
    *,
    writers: int = 1,
) -> Outcome:
    """Apply events to every view they concern, each exactly once; `writers` items are written at a time.

    An event counts as failed if any of its groups failed; redelivery is safe because the other groups know its id.
    """
    accepted, refused = _checked(events, definitions, clock.now_ms())
    groups = list(_groups(accepted, definitions))
    reads = store.load([group.key for group in groups])

    def cause_of_failure(group: _Group) -> str | None:
        try:
            _apply(group, reads[group.key], store, clock.now_ms(), retention)
        except (StoreUnavailable, CorruptItem) as cause:
            return str(cause)
        return None

    with ThreadPoolExecutor(writers) as pool:
        causes = list(pool.map(cause_of_failure, groups))
    failures = {
        event.id: cause
        for group, cause in zip(groups, causes, strict=True)
        if cause
        for event in group.events
    }
    return Outcome(refused, failures)


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


def _groups(events: Iterable[Event], definitions: Definitions) -> Iterator[_Group]:
    """Events by (view, entity)."""
    grouped: dict[tuple[FeatureView, str], list[Event]] = defaultdict(list)
    for event in events:
        for view in definitions.views_by_event[event.type]:
            entity_key = event.entities.get(view.entity.name)
            if entity_key is not None:
                grouped[view, view.item_key(entity_key)].append(event)
    return (_Group(view, key, found) for (view, key), found in grouped.items())


def _apply(group: _Group, read: Read, store: FeatureStore, now_ms: int, retention: Retention) -> None:
    """Apply a group in commits that DynamoDB takes."""
    for start in range(0, len(group.events), MARKERS_PER_COMMIT):
        page = group.events[start : start + MARKERS_PER_COMMIT]
        read = _commit(_Group(group.view, group.key, page), read, store, now_ms, retention)


def _commit(group: _Group, read: Read, store: FeatureStore, now_ms: int, retention: Retention) -> Read:
    """Apply and write one commit's worth until it is committed; returns what then stands."""
    events = group.events
    for _ in range(ATTEMPTS):
        if read.state == "unavailable":
            raise StoreUnavailable("the item could not be read")
        state = ViewState.new(group.view) if read.blob is None else ViewState.decode(group.view, read.blob)
        fresh = state.apply(events, now_ms, retention.event_ids)
        if not fresh:
            return read
        commit = Commit(
            key=group.key,
            blob=state.encode(),
            seen=read.version,
            event_ids=[event.id for event in fresh],
            applied_at=now_ms,
            expires_at=(now_ms + retention.items) // SECOND,
            marker_expiry=(now_ms + retention.event_ids) // SECOND if state.markers else None,
        )
        match store.commit(commit):
            case Committed(version):
                return Read("present", commit.blob, version)
            case Conflict(current):
                read = current
            case Duplicates(known):
                events = [event for event in events if event.id not in known]
    raise StoreUnavailable(f"{ATTEMPTS} conflicting writers on one item")
