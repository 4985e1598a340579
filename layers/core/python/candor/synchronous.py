"""Synchronous views on the scorer: read strongly, and updated in the same transaction as the decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from candor.contracts import Event
from candor.errors import DefinitionError
from candor.features.definitions import Definitions
from candor.features.event_types import DECIDED, MAX_SKEW
from candor.features.vector import UNREADABLE, DecodedItem
from candor.features.views import FeatureView
from candor.store.protocol import MARKERS_PER_COMMIT, Commit
from candor.updates import Retention, prepare_decoded

Keys = Mapping[str, Sequence[str]]
"""Item keys by view name, for the entities that an application names. A synchronous view has one item each."""

Items = Mapping[str, DecodedItem]
"""Decoded items by key."""


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

    def live(self, keys: Keys, items: Items, now_ms: int) -> tuple[int, Items]:
        """The moment `q` (ms) of a live decision, and the items valid at it.

        `q` is after every event that the items hold, so checkouts of one millisecond see each other. An item ahead of
        the clock by `MAX_SKEW` or more is unavailable: its events cannot be counted at `q`.
        """
        marks = {key: _watermark(items[key]) for _, key in self._items(keys)}
        q = max([now_ms, *(mark + 1 for mark in marks.values() if mark < now_ms + MAX_SKEW)])
        return q, {**items, **{key: UNREADABLE for key, mark in marks.items() if mark >= q}}

    def unseen(self, states: Mapping[str, str]) -> bool:
        """True if a view could not be read, or is stale: earlier approvals are not known for certain."""
        return any(states[view.name] in {"unavailable", "stale"} for view in self._views)

    def commits(self, event: Event, keys: Keys, items: Items, now_ms: int) -> list[Commit]:
        """Commits of the decided event to every readable item that does not hold it yet.

        Changes the items' states in place: read what the decision needs before. An item without a state is
        not written: it receives the event from the bus, and if it is corrupt, the updater fails and an alarm is raised.
        """
        commits = []
        for view, key in self._items(keys):
            if DECIDED not in view.event_types or items[key].state is None:
                continue
            prepared = prepare_decoded(view, key, items[key], [event], now_ms, self._retention)
            if prepared.commit is not None:
                commits.append(prepared.commit)
        return commits

    def _items(self, keys: Keys) -> Iterator[tuple[FeatureView, str]]:
        return ((view, key) for view in self._views for key in keys.get(view.name, ()))


def _watermark(item: DecodedItem) -> int:
    """Moment (ms) of the newest event in the item; −1 if it holds none, or has no state."""
    return -1 if item.state is None else item.state.watermark
