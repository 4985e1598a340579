"""Healing of stale items in two conditional commits each.

The first marks the stored version as healing: later events go to a separate part, so the part to recompute is stable.
The second, once the archive holds everything up to that version, replaces that part by its events without the voided
ones. Both are idempotent, and an exact item is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from candor.clock import Clock
from candor.errors import CorruptItem, StoreUnavailable
from candor.features.definitions import Definitions
from candor.features.state import ViewState
from candor.features.vector import Read, Version
from candor.features.views import FeatureView
from candor.ingest import BACKOFF
from candor.store.protocol import Commit, Committed, FeatureStore
from history.archive.commits import CONTRADICTORY, LogUnusable
from history.archive.events import ArchiveDamaged
from history.index.bucket import Vanished
from history.index.history import EntityHistory, NotIndexed
from history.index.read import ArchiveIndex
from history.rebuild.backfill import ATTEMPTS
from history.rebuild.rebuild import ArchivedItems
from history.rebuild.recompute import (
    NotFillable,
    earlier_events,
    healed_commit,
    healing_commit,
    held_events,
    state_of,
)

MOST_UNINDEXED: Final = 5_000
"""Archive objects that a healing reads without an index: a few days of Firehose's, or a small archive whole."""

Status = Literal["exact", "healed", "begun", "waiting", "failed"]


class HealingResult(NamedTuple):
    """Result for an item.

    exact: nothing to heal, or the item is gone. begun: marked, to be healed later. healed: by this call. waiting:
    retry later. failed: a retry will not help.
    """

    status: Status
    cause: str | None = None


EXACT: Final = HealingResult("exact")
BEGUN: Final = HealingResult("begun")
HEALED: Final = HealingResult("healed")
READY: Final = HealingResult("waiting", "the archive is to be read")
CHANGED: Final = HealingResult("waiting", "the item changed meanwhile")

Items = Mapping[str, FeatureView]
Prepare = Callable[[Read], Commit | None]


@dataclass(frozen=True)
class Healer:
    """Healer of items in the stores of plain and of synchronous views."""

    index: ArchiveIndex
    definitions: Definitions
    store: FeatureStore
    synchronous_store: FeatureStore
    clock: Clock

    def heal(self, keys: Collection[str]) -> Mapping[str, HealingResult]:
        """Advance each item by one step.

        An item of a version that is no longer kept counts as exact. botocore's errors pass through.
        """
        views = {f"{view.name}@{view.version}": view for view in self.definitions.kept}
        items = {key: view for key in keys if (view := views.get(key.partition("#")[0]))}
        reads = self._reads(items)
        results = dict.fromkeys(keys, EXACT)
        results |= {key: self._started(view, key, reads[key]) for key, view in items.items()}
        healing = {key: items[key] for key, result in results.items() if result is READY}
        return results | self._finished(healing, reads)

    def _reads(self, items: Items) -> Mapping[str, Read]:
        """Read the stored items by key: one read per store."""
        keys: defaultdict[FeatureStore, list[str]] = defaultdict(list)
        for key, view in items.items():
            keys[self._store(view)].append(key)
        return {key: read for store, wanted in keys.items() for key, read in store.load(wanted).items()}

    def _store(self, view: FeatureView) -> FeatureStore:
        return self.synchronous_store if view.synchronous else self.store

    def _started(self, view: FeatureView, key: str, read: Read) -> HealingResult:
        """Take the first step; READY for an item that is past it."""
        try:
            state = state_of(view, read)
            if not state.stale:
                return EXACT
            if state.healing_from is not None:
                return READY
            commit = self._commit(view, key, read, lambda now: self._beginning(view, key, now))
        except StoreUnavailable as cause:
            return HealingResult("waiting", str(cause))
        except CorruptItem as cause:
            return HealingResult("failed", str(cause))
        return CHANGED if commit is None else BEGUN

    def _beginning(self, view: FeatureView, key: str, read: Read) -> Commit | None:
        return healing_commit(view, key, read, self.clock.now_ms())

    def _finished(self, items: Items, reads: Mapping[str, Read]) -> dict[str, HealingResult]:
        """Take the second step for all items, with one read of the archive."""
        if not items:
            return {}
        history = EntityHistory(self.index, self.definitions, items, MOST_UNINDEXED)
        try:
            history.update()
        except (NotIndexed, Vanished) as cause:
            return dict.fromkeys(items, HealingResult("waiting", str(cause)))
        except ArchiveDamaged as cause:
            return dict.fromkeys(items, HealingResult("failed", str(cause)))
        return {key: self._finish(view, key, reads[key], history.memory) for key, view in items.items()}

    def _finish(self, view: FeatureView, key: str, read: Read, memory: ArchivedItems) -> HealingResult:
        try:
            commit = self._commit(view, key, read, lambda now: self._healing(view, key, now, memory))
        except StoreUnavailable as cause:
            return HealingResult("waiting", str(cause))
        except LogUnusable as cause:
            return HealingResult("failed" if str(cause) == CONTRADICTORY else "waiting", str(cause))
        except (NotFillable, CorruptItem) as cause:
            return HealingResult("failed", str(cause))
        if commit is None:
            return CHANGED
        return CHANGED if ViewState.decode(view, commit.blob).stale else HEALED

    def _healing(self, view: FeatureView, key: str, read: Read, memory: ArchivedItems) -> Commit | None:
        """Return the commit that replaces the state from before the healing; None if the item is no longer healing."""
        start = state_of(view, read).healing_from
        if start is None or read.version is None:
            return None
        logged = memory.log.up_to(key, Version(read.version.birth, start))
        arrivals = list(memory.items[key].values())
        earlier = [commit for commit in memory.log.of(key) if commit.birth < read.version.birth]
        events = [*earlier_events(view, earlier, arrivals), *held_events(logged, arrivals)]
        return healed_commit(view, key, read, events, self.clock.now_ms())

    def _commit(self, view: FeatureView, key: str, read: Read, prepare: Prepare) -> Commit | None:
        """Write the commit of `prepare`, retrying on conflicts; None if it prepares none. Raises StoreUnavailable."""
        store = self._store(view)
        for attempt in range(1, ATTEMPTS + 1):
            commit = prepare(read)
            if commit is None or isinstance(store.commit(commit), Committed):
                return commit
            BACKOFF.wait(attempt)
            read = store.load([key])[key]
        raise StoreUnavailable(f"{ATTEMPTS} conflicting writers on one item")
