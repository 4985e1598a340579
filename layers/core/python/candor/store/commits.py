"""From events to a commit: what an updater and a scorer write is prepared in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from candor.clock import SECOND
from candor.contracts import Event
from candor.errors import StoreUnavailable
from candor.features.state import Applied, ViewState
from candor.features.vector import Read
from candor.features.views import FeatureView
from candor.store.protocol import Commit


class Retention(msgspec.Struct, frozen=True):
    """How long things are kept, ms of wall clock: items after their last event, event ids for deduplication."""

    items: int
    event_ids: int


class Prepared(NamedTuple):
    """An item's next state, the commit that writes it (None where nothing changes), and what `apply` told."""

    state: ViewState
    commit: Commit | None
    applied: Applied


def prepare(
    view: FeatureView, key: str, read: Read, events: Sequence[Event], now_ms: int, retention: Retention
) -> Prepared:
    """Apply events to what was read of their item.

    Raises `StoreUnavailable` if nothing could be read: on top of nothing nothing is written; `CorruptItem` for an item
    that cannot be decoded.
    """
    if read.state == "unavailable":
        raise StoreUnavailable("the item could not be read")
    state = ViewState.new(view) if read.blob is None else ViewState.decode(view, read.blob)
    folded = state.folded
    applied = state.apply(events, now_ms, retention.event_ids)
    if not applied.fresh and state.folded is folded:
        return Prepared(state, None, applied)
    commit = Commit(
        key=key,
        blob=state.encode(),
        seen=read.version,
        event_ids=[event.dedup_id for event in applied.fresh],
        applied_at=now_ms,
        expires_at=(now_ms + retention.items) // SECOND,
        marker_expiry=(now_ms + retention.event_ids) // SECOND if state.markers else None,
        left_out=bool(applied.too_late),
    )
    return Prepared(state, commit, applied)
