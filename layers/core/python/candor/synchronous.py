"""Synchronous views on the scorer: read strongly, and updated in the same transaction as the decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from candor.contracts import Event
from candor.errors import CorruptItem, DefinitionError
from candor.features.definitions import Definitions
from candor.features.event_types import DECIDED, MAX_SKEW
from candor.features.state import ViewState
from candor.features.vector import UNAVAILABLE, Read
from candor.features.views import FeatureView
from candor.store.protocol import MARKERS_PER_COMMIT, Commit
from candor.updates import Retention, prepare

Keys = Mapping[str, Sequence[str]]
"""Item keys by view name, for the entities that an application names. A synchronous view has one item each."""

Reads = Mapping[str, Read]
"""Reads by item key."""


class SynchronousViews:
    """The synchronous views of a set of definitions. Raises `DefinitionError` if they do not fit in one transaction."""

    def __init__(self, definitions: Definitions, retention: Retention) -> None:
        self._views = [view for view in definitions.views if view.synchronous]
        self._retention = retention
        if 2 * len(self._views) > MARKERS_PER_COMMIT:
            raise DefinitionError(
                f"{len(self._views)} synchronous views do not fit in one transaction with their markers and the decision"
            )

    def keys(self, keys: Keys) -> list[str]:
        """Keys of synchronous items, which are read strongly from their own table."""
        return [key for _, key in self._items(keys)]

    def live(self, keys: Keys, reads: Reads, now_ms: int) -> tuple[int, Reads]:
        """The moment `q` (ms) of a live decision, and the reads valid at it.

        `q` is after every event that the items hold, so checkouts of one millisecond see each other. An item ahead of
        the clock by `MAX_SKEW` or more is unavailable: its events cannot be counted at `q`.
        """
        marks = {key: _watermark(view, reads[key]) for view, key in self._items(keys)}
        q = max([now_ms, *(mark + 1 for mark in marks.values() if mark < now_ms + MAX_SKEW)])
        return q, {**reads, **{key: UNAVAILABLE for key, mark in marks.items() if mark >= q}}

    def unseen(self, states: Mapping[str, str]) -> bool:
        """True if a view could not be read, or is stale: earlier approvals are not known for certain."""
        return any(states[view.name] in {"unavailable", "stale"} for view in self._views)

    def commits(self, event: Event, keys: Keys, reads: Reads, now_ms: int) -> list[Commit]:
        """Commits of the decided event to every readable item that does not hold it yet.

        An unreadable item is not written: it receives the event from the bus.
        """
        commits = []
        for view, key in self._items(keys):
            if DECIDED not in view.event_types or reads[key].state == "unavailable":
                continue
            try:
                prepared = prepare(view, key, reads[key], [event], now_ms, self._retention)
            except CorruptItem:
                continue  # unavailable in the vector; the updater fails on the bus copy, which raises an alarm
            if prepared.commit is not None:
                commits.append(prepared.commit)
        return commits

    def _items(self, keys: Keys) -> Iterator[tuple[FeatureView, str]]:
        return ((view, key) for view in self._views for key in keys.get(view.name, ()))


def _watermark(view: FeatureView, read: Read) -> int:
    """Moment (ms) of the newest event in the item; −1 if it holds none, or cannot be decoded."""
    try:
        return -1 if read.blob is None else ViewState.decode(view, read.blob).watermark
    except CorruptItem:
        return -1
