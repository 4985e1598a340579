"""Synchronous views as the scorer has them: what a burst wrote before is seen, what is decided is written along."""

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
"""What was read, by item key."""


class SynchronousViews:
    """The synchronous views of some definitions. Raises `DefinitionError` for more than one transaction takes."""

    def __init__(self, definitions: Definitions, retention: Retention) -> None:
        self._views = [view for view in definitions.views if view.synchronous]
        self._retention = retention
        if 2 * len(self._views) > MARKERS_PER_COMMIT:
            raise DefinitionError(
                f"{len(self._views)} synchronous views do not fit in one transaction with their markers and the decision"
            )

    def keys(self, keys: Keys) -> list[str]:
        """Those of the keys that are read strongly, from the table of these views."""
        return [key for _, key in self._items(keys)]

    def live(self, keys: Keys, reads: Reads, now_ms: int) -> tuple[int, Reads]:
        """The moment (ms) of a live decision, and the reads as they count at it.

        The moment is after every event that the items hold: checkouts of one millisecond see each other. An item that is
        further ahead than a clock may be is unavailable: what it holds cannot be counted.
        """
        marks = {key: _watermark(view, reads[key]) for view, key in self._items(keys)}
        q = max([now_ms, *(mark + 1 for mark in marks.values() if mark < now_ms + MAX_SKEW)])
        return q, {**reads, **{key: UNAVAILABLE for key, mark in marks.items() if mark >= q}}

    def unseen(self, states: Mapping[str, str]) -> bool:
        """True if one of the views could not be read, or is stale: what others were granted is not known for certain."""
        return any(states[view.name] in {"unavailable", "stale"} for view in self._views)

    def commits(self, event: Event, keys: Keys, reads: Reads, now_ms: int) -> list[Commit]:
        """What writes the decided event into every item that could be read and does not hold it.

        Nothing is written on top of an item that could not be read: the bus brings it a copy of the event.
        """
        commits = []
        for view, key in self._items(keys):
            if DECIDED not in view.event_types or reads[key].state == "unavailable":
                continue
            try:
                prepared = prepare(view, key, reads[key], [event], now_ms, self._retention)
            except CorruptItem:
                continue  # unavailable in the vector, and the updater fails on the copy where it is noticed
            if prepared.commit is not None:
                commits.append(prepared.commit)
        return commits

    def _items(self, keys: Keys) -> Iterator[tuple[FeatureView, str]]:
        return ((view, key) for view in self._views for key in keys.get(view.name, ()))


def _watermark(view: FeatureView, read: Read) -> int:
    """Moment of the newest event that the item holds; before all of them for one that holds or tells nothing."""
    try:
        return -1 if read.blob is None else ViewState.decode(view, read.blob).watermark
    except CorruptItem:
        return -1
