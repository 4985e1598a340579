"""Recomputation of items: requested by an operator, or because they are stale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from candor.clock import SECOND
from candor.contracts import Event
from candor.errors import CandorError, CorruptItem, StoreUnavailable
from candor.features.codec import id_hash
from candor.features.state import RING_IDS, STAMP, ViewState
from candor.features.vector import Read
from candor.features.views import FeatureView
from candor.store.protocol import Commit
from candor.updates import Retention
from history.archive.commits import Commit as Logged
from history.archive.commits import LogUnusable
from history.archive.events import Arrival


class NotFillable(CandorError):
    """The item was written before its ids were recorded, and the log does not list the events it holds."""


def rebuilding_commit(
    view: FeatureView,
    key: str,
    read: Read,
    events: Sequence[Event],
    logged: Sequence[Logged],
    now_ms: int,
    retention: Retention,
) -> Commit:
    """Return the commit that recomputes an item from `events`, all that its log lists.

    The old item's deduplication state is kept if readable, else derived from the log. Raises NotFillable if there is
    no item.
    """
    if read.version is None:
        raise NotFillable("no such item: no event was applied, or it expired")
    try:
        item = state_of(view, read)
    except CorruptItem:
        item = _of_log(view, logged, read.version.birth, now_ms - retention.event_ids)
    return _rebuilt(key, read, recomputed(item, events), now_ms)


def healing_commit(view: FeatureView, key: str, read: Read, now_ms: int) -> Commit | None:
    """Return the commit from which on new events are kept apart; None if the item is not stale or already healing.

    Raises StoreUnavailable, CorruptItem.
    """
    state = state_of(view, read)
    if read.version is None or state.delta is not None or not state.stale:
        return None
    state.begin_healing(read.version.n + 1)
    return msgspec.structs.replace(_commit(key, read, state, now_ms), healing=True)


def healed_commit(view: FeatureView, key: str, read: Read, events: Sequence[Event], now_ms: int) -> Commit:
    """Return the commit that replaces the stale state by `events`, all that the item held when its healing began.

    Raises NotFillable if it is not being healed, StoreUnavailable, CorruptItem.
    """
    item = state_of(view, read)
    if item.delta is None:
        raise NotFillable("the item is not being healed")
    state = recomputed(item, events)
    state.finish_healing(item)
    return _rebuilt(key, read, state, now_ms)


def recomputed(item: ViewState, events: Iterable[Event]) -> ViewState:
    """Return a state of exactly these events, with the item's known ids."""
    state = ViewState.new(item.plan.view)
    state.ring, state.markers, state.since = item.ring, item.markers, item.since
    state.filled, state.erased_at = item.filled, item.erased_at
    state.recompute(events)
    return state


def _rebuilt(key: str, read: Read, state: ViewState, now_ms: int) -> Commit:
    return msgspec.structs.replace(_commit(key, read, state, now_ms), rebuilt=True)


def _commit(key: str, read: Read, state: ViewState, now_ms: int) -> Commit:
    """Return the commit that writes a state over the item read and applies no event of its own."""
    return Commit(
        key=key,
        blob=state.encode(),
        seen=read.version,
        event_ids=(),
        applied_at=now_ms,
        expires_at=item_expiry(state.plan.view, now_ms),
    )


def item_expiry(view: FeatureView, now_ms: int) -> int | None:
    """Second from which DynamoDB may delete an item written now; None if never."""
    return None if view.item_expiry_ms is None else (now_ms + view.item_expiry_ms) // SECOND


def _of_log(view: FeatureView, logged: Sequence[Logged], birth: int, since: int) -> ViewState:
    """Return the state of an unreadable item without its events, from the log; ids applied since `since` (ms)."""
    life = [commit for commit in logged if commit.birth == birth]
    state = ViewState.new(view)
    state.ring = {
        id_hash(event_id): commit.applied_at // SECOND << STAMP
        for commit in life
        if commit.applied_at >= since
        for event_id in commit.event_ids
    }
    state.markers = view.entity.hot or len(state.ring) > RING_IDS
    state.filled = any(commit.filled_before for commit in life)
    state.since = min((commit.applied_at // SECOND for commit in life), default=0)
    return state


def held_events(logged: Sequence[Logged], arrivals: Sequence[Arrival]) -> list[Event]:
    """Return the events that these commits of an item applied, in order of version.

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


def earlier_events(view: FeatureView, logged: Sequence[Logged], arrivals: Iterable[Arrival]) -> list[Event]:
    """Return the events of an item's earlier births, if a window of the view may reach back to them.

    Raises LogUnusable if the archive lacks one of them.
    """
    lifetime = any(feature.window.length is None for feature in view.features)
    return held_events(logged, list(arrivals)) if lifetime and logged else []


def state_of(view: FeatureView, read: Read) -> ViewState:
    """Decode the item's state. Raises StoreUnavailable, CorruptItem."""
    if read.state == "unavailable":
        raise StoreUnavailable("the item could not be read")
    return ViewState.new(view) if read.blob is None else ViewState.decode(view, read.blob)
