"""Recomputation of one entity's items from the archive while the updater keeps writing."""

from __future__ import annotations

from collections.abc import Iterable

from candor.clock import Clock
from candor.errors import StoreUnavailable
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from candor.store.protocol import Committed, Conflict, FeatureStore
from candor.updates import Retention
from history.archive.commits import CommitLog, read_log
from history.archive.events import Arrival, Envelope, arrivals, read_envelopes
from history.archive.items import add_arrival
from history.archive.objects import Objects
from history.rebuild.backfill import ATTEMPTS
from history.rebuild.recompute import earlier_events, held_events, rebuilding_commit


class ArchivedItems:
    """Archived commits and events of some items, as read so far."""

    def __init__(self, keys: Iterable[str], definitions: Definitions) -> None:
        self.log = CommitLog()
        self.items: dict[str, dict[str, Arrival]] = {key: {} for key in keys}
        self._definitions = definitions

    def read(self, events: Objects, commits: Objects) -> None:
        """Read objects, some of which may have been read before. Raises ArchiveDamaged."""
        read_log(commits, self.items, self.log)
        self.add_events(read_envelopes(events), self.items)

    def add_events(self, envelopes: Iterable[Envelope], keys: Iterable[str]) -> None:
        """Add events, in order of arrival, to those of these items that they belong to."""
        items = {key: self.items[key] for key in keys}
        for arrival in arrivals(envelopes, self._definitions, ever=True):
            add_arrival(items, arrival, self._definitions)


def rebuild(
    view: FeatureView,
    key: str,
    memory: ArchivedItems,
    store: FeatureStore,
    clock: Clock,
    retention: Retention,
) -> None:
    """Replace exactly the stored version by one of the same events, without the voided ones.

    Raises LogUnusable if the archive does not reach that version yet or contradicts itself; NotFillable if there is
    no item; StoreUnavailable.
    """
    read = store.load([key])[key]
    for _ in range(ATTEMPTS):
        if read.state == "unavailable":
            raise StoreUnavailable("the item could not be read")
        logged = [] if read.version is None else memory.log.up_to(key, read.version)
        arrivals = list(memory.items[key].values())
        earlier = [commit for commit in memory.log.of(key) if logged and commit.birth < logged[0].birth]
        events = [*earlier_events(view, earlier, arrivals), *held_events(logged, arrivals)]
        commit = rebuilding_commit(view, key, read, events, logged, clock.now_ms(), retention)
        match store.commit(commit):
            case Committed():
                return
            case Conflict(current):
                read = current
    raise StoreUnavailable(f"{ATTEMPTS} conflicting writers on one item")
