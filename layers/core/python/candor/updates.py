"""Prepares commits from events, for the updater and the scorer alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from candor.clock import SECOND
from candor.contracts import Event
from candor.errors import StoreUnavailable
from candor.features.state import Applied, Marker, ViewState
from candor.features.vector import DecodedItem, Read
from candor.features.views import FeatureView
from candor.store.protocol import Commit


class Retention(msgspec.Struct, frozen=True):
    """Retention (ms of wall clock) of event ids for deduplication."""

    event_ids: int


Markers = Callable[[str, Sequence[str]], Mapping[str, Marker]]
"""Lookup of the marker items of an item's events: `FeatureStore.markers`."""


def no_markers(_key: str, _event_ids: Sequence[str]) -> Mapping[str, Marker]:
    """No markers: for events that are neither voids nor late."""
    return {}


class PreparedUpdate(NamedTuple):
    """An item's next state, the commit that writes it (None if nothing changes), and the result of `apply`."""

    state: ViewState
    commit: Commit | None
    applied: Applied


def prepare(
    view: FeatureView,
    key: str,
    read: Read,
    events: Sequence[Event],
    now_ms: int,
    retention: Retention,
    markers: Markers = no_markers,
) -> PreparedUpdate:
    """Apply events to the read of their item. `markers` is called for events whose meaning depends on a marker.

    Raises `StoreUnavailable` if the item could not be read: it must not be overwritten; `CorruptItem` if it cannot be
    decoded.
    """
    if read.state == "unavailable":
        raise StoreUnavailable("the item could not be read")
    state = ViewState.new(view) if read.blob is None else ViewState.decode(view, read.blob)
    item = DecodedItem(state, read.version)
    return prepare_decoded(view, key, item, events, now_ms, retention, markers)


def prepare_decoded(
    view: FeatureView,
    key: str,
    item: DecodedItem,
    events: Sequence[Event],
    now_ms: int,
    retention: Retention,
    markers: Markers = no_markers,
) -> PreparedUpdate:
    """Apply events to the state of their item, in place. Raises `StoreUnavailable` if it has none."""
    state = item.state
    if state is None:
        raise StoreUnavailable("the item could not be read")
    doubtful = state.doubtful(events)
    before = state.base.folded
    applied = state.apply(events, now_ms, retention.event_ids, markers(key, doubtful) if doubtful else None)
    if not applied.fresh and state.base.folded is before:
        return PreparedUpdate(state, None, applied)
    expiry = view.item_expiry_ms
    commit = Commit(
        key=key,
        blob=state.encode(),
        seen=item.version,
        event_ids=[event.dedup_id for event in applied.fresh],
        applied_at=now_ms,
        expires_at=None if expiry is None else (now_ms + expiry) // SECOND,
        marker_expiry=(now_ms + retention.event_ids) // SECOND if state.markers else None,
        fingerprints=applied.fingerprints if state.markers else (),
        unsettled=applied.unsettled,
        left_out=bool(applied.too_late),
    )
    return PreparedUpdate(state, commit, applied)
