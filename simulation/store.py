"""Simulated feature store with DynamoDB's guarantees and failures. Every call sleeps, so other tasks interleave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from candor.clock import DAY, SECOND
from candor.contracts import Event
from candor.errors import StoreUnavailable
from candor.features.state import Marker
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.store.protocol import (
    MARKERS_PER_COMMIT,
    Commit,
    Committed,
    Conflict,
    Duplicates,
    completion_key,
    marked,
    next_version,
)
from simulation.scheduler import Scheduler

LATEST_REQUEST = 20 * SECOND
"""Largest delay (ms) of a request that its sender has given up."""


Seen = Sequence[Sequence[float]]
"""Values of every synchronous view that a decision saw."""


class Violation(Exception):
    """A check of the world failed."""


class Surroundings(Protocol):
    """Services of the world that the store uses."""

    scheduler: Scheduler

    def happens(self, fault: str) -> bool:
        """Draw whether a fault happens now."""
        ...

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        ...

    def reach(self, what: str) -> None:
        """Count a situation."""
        ...


class Caller(Protocol):
    """The process that calls the store."""

    name: str

    def now_ms(self) -> int:
        """The process's own clock."""
        ...

    def io(self, what: str) -> None:
        """An I/O boundary: time passes, and the process may die here."""
        ...


class Table:
    """Items and markers with their time to live, and the commit log."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self.items: dict[str, tuple[Read, int | None]] = {}
        self.markers: dict[tuple[str, str], Marker] = {}
        self.claims: dict[tuple[str, str], str] = {}
        self.completions: set[str] = set()
        self.log: dict[str, list[Commit]] = defaultdict(list)
        self.earlier: dict[str, list[Commit]] = defaultdict(list)
        """Commits of an item's births that TTL has ended."""

        self.expired: set[str] = set()
        self.decisions: dict[str, tuple[Event, Seen]] = {}
        self._versions: set[tuple[str, Version]] = set()

    def get(self, key: str) -> Read:
        """Return the stored item."""
        return self.items[key][0] if key in self.items else ABSENT

    def birth(self, now_ms: int) -> int:
        """Birth number of a new item: its writer's clock in ns."""
        return now_ms * 1_000_000 + self._world.scheduler.rng.randrange(1_000_000)

    def unchanged(self, commit: Commit) -> bool:
        """True if the item still has the version that the commit read."""
        return self.get(commit.key).version == commit.seen

    def known(self, commit: Commit) -> frozenset[str]:
        """Return the events of the commit that already have a marker."""
        return frozenset(event for event in commit.event_ids if (commit.key, event) in self.markers)

    def write(self, commit: Commit, version: Version) -> Committed | Conflict | Duplicates:
        """Perform one conditional put, or one transaction with the markers: all or nothing."""
        if commit.marker_expiry is not None and (known := self.known(commit)):
            return Duplicates(known)
        if not self.unchanged(commit):
            return Conflict(UNAVAILABLE)
        if commit.marker_expiry is not None:
            self.mark(commit)
        self.put(commit, version)
        return Committed(version)

    def marker(self, key: str, event_id: str) -> Marker | None:
        """Return an event's marker; a claim does not prove what was counted."""
        marker = self.markers.get((key, event_id))
        claimed = marker is not None and (key, event_id) in self.claims
        return marker._replace(fingerprint=0) if marker is not None and claimed else marker

    def claim(self, commit: Commit, event_ids: Sequence[str]) -> frozenset[str]:
        """Perform one transaction that marks events in the name of a bulk job; returns those that others have marked."""
        keys = [(commit.key, event_id) for event_id in event_ids]
        known = frozenset(
            key[1] for key in keys if key in self.markers and self.claims.get(key) != commit.claimant
        )
        if not known:
            self.mark(commit, frozenset(event_ids))
            self.claims |= dict.fromkeys(keys, commit.claimant)
            self._world.reach("claimed")
        return known

    def write_claimed(self, commit: Commit, version: Version) -> Committed | Conflict | Duplicates:
        """Perform one transaction of an item whose events are claimed, and the job's completion."""
        if completion_key(commit.key, commit.claimant) in self.completions:
            return Duplicates(frozenset(commit.event_ids))
        if not self.unchanged(commit):
            return Conflict(UNAVAILABLE)
        self.completions.add(completion_key(commit.key, commit.claimant))
        self.put(commit, version)
        return Committed(version)

    def decide(
        self, event: Event, commits: Sequence[Commit], versions: Sequence[Version], seen: Seen
    ) -> Event | Conflict:
        """Perform one transaction of a decision and its items. Returns the stored decision if there is one."""
        if event.id in self.decisions:
            return self.decisions[event.id][0]
        if any(not self.unchanged(commit) or self._is_marked(commit) for commit in commits):
            return Conflict(UNAVAILABLE)
        for commit, version in zip(commits, versions, strict=True):
            if commit.marker_expiry is not None:
                self.mark(commit)
            self.put(commit, version)
        self.decisions[event.id] = event, seen
        return event

    def _is_marked(self, commit: Commit) -> bool:
        return commit.marker_expiry is not None and bool(self.known(commit))

    def mark(self, commit: Commit, event_ids: frozenset[str] | None = None) -> None:
        """Write the markers, of these events or all; each is deleted some time after its expiry."""
        assert commit.marker_expiry is not None
        self._world.reach("markers written")
        for event, fingerprint in marked(commit):
            if event_ids is None or event in event_ids:
                self.markers[commit.key, event] = Marker(fingerprint, commit.marker_expiry)
        self._world.scheduler.at(self._sweep(commit.marker_expiry), lambda: self._expire_markers(commit))

    def put(self, commit: Commit, version: Version) -> None:
        """Write the item. Raises ``Violation`` if it had this version before."""
        if (commit.key, version) in self._versions:
            raise Violation(f"version {version.birth}.{version.n} of {commit.key} was used before")
        self._versions.add((commit.key, version))
        self.items[commit.key] = Read("present", commit.blob, version), commit.expires_at
        self.log[commit.key].append(commit)
        if commit.expires_at is not None:
            self._world.scheduler.at(self._sweep(commit.expires_at), lambda: self._expire_item(commit.key))

    def _sweep(self, expires_at: int) -> int:
        """Delay until DynamoDB deletes an expired item: up to two days."""
        linger = self._world.scheduler.rng.choice([1, 1, 2 * DAY])
        return expires_at * SECOND + self._world.scheduler.rng.randint(1, linger)

    def _expire_item(self, key: str) -> None:
        expires_at = self.items[key][1] if key in self.items else None
        if expires_at is not None and expires_at * SECOND < self._world.scheduler.now:
            del self.items[key]
            self.earlier[key] += self.log.pop(key)
            self.expired.add(key)
            self._world.note("ttl", f"deleted {key}")
            self._world.reach("item expired")

    def _expire_markers(self, commit: Commit) -> None:
        for event in commit.event_ids:
            marker = self.markers.get((commit.key, event))
            if marker is not None and marker.expires_at == commit.marker_expiry:
                del self.markers[commit.key, event]
                self._world.reach("marker expired")


class Client:
    """The store as seen by one process: ``FeatureStore`` over the table, with faults."""

    def __init__(self, world: Surroundings, process: Caller, table: Table) -> None:
        self._world = world
        self.process = process
        self.table = table

    def load(self, keys: Sequence[str]) -> Mapping[str, Read]:
        self.process.io("read")
        reads = {key: self._item(key) for key in keys}
        self.process.io("read answered")
        return reads

    def _item(self, key: str) -> Read:
        return UNAVAILABLE if self._world.happens("read unavailable") else self.table.get(key)

    def markers(self, key: str, event_ids: Sequence[str]) -> Mapping[str, Marker]:
        self.process.io("markers read")
        if self._world.happens("read unavailable"):
            raise StoreUnavailable("the markers could not be read")
        marks = {event_id: self.table.marker(key, event_id) for event_id in event_ids}
        return {event_id: marker for event_id, marker in marks.items() if marker is not None}

    def commit(self, commit: Commit) -> Committed | Conflict | Duplicates:
        if commit.claimant and commit.marker_expiry is not None:
            pages = range(0, len(commit.event_ids), MARKERS_PER_COMMIT)
            claims = (
                self._claim(commit, commit.event_ids[page : page + MARKERS_PER_COMMIT]) for page in pages
            )
            if known := frozenset[str]().union(*claims):
                return Duplicates(known)
        self.process.io("commit sent")
        version = next_version(commit.seen, self.table.birth(self.process.now_ms()))
        self._before(lambda: self._arrive(commit, version))
        if commit.marker_expiry is not None and self._world.happens("transaction conflict"):
            return self._current(commit.key)
        outcome = self._written(commit, version)
        if self._world.happens("client retried"):
            self.process.io("retries the request")
            outcome = self._written(commit, version)
        self.process.io("commit answered")
        if self._world.happens("answer lost"):
            raise StoreUnavailable("the answer was lost")
        return self._current(commit.key) if isinstance(outcome, Conflict) else outcome

    def _claim(self, commit: Commit, event_ids: Sequence[str]) -> frozenset[str]:
        self.process.io("claims sent")
        self._before(lambda: self.table.claim(commit, event_ids))
        known = self.table.claim(commit, event_ids)
        self.process.io("claims answered")
        if self._world.happens("answer lost"):
            raise StoreUnavailable("the answer was lost")
        return known

    def decide(self, event: Event, commits: Sequence[Commit], seen: Seen) -> Event | Conflict:
        """Write a decision with the commits of its items, as the scorer does."""
        self.process.io("decision sent")
        birth = self.table.birth(self.process.now_ms())
        versions = [next_version(commit.seen, birth) for commit in commits]

        def arrive() -> Event | Conflict:
            return self.table.decide(event, commits, versions, seen)

        self._before(arrive)
        if self._world.happens("transaction conflict"):
            return Conflict(UNAVAILABLE)
        outcome = arrive()
        self.process.io("decision answered")
        self._world.note(self.process.name, f"decision {event.id}: {type(outcome).__name__}")
        if self._world.happens("answer lost"):
            raise StoreUnavailable("the answer was lost")
        return outcome

    def _before(self, arrive: Callable[[], object]) -> None:
        """Apply the faults that prevent a response; a late request still arrives."""
        if self._world.happens("request late"):
            delay = self._world.scheduler.rng.randrange(LATEST_REQUEST)
            scheduler = self._world.scheduler
            scheduler.at(scheduler.now + delay, arrive)
            raise StoreUnavailable("no answer, and the request still travels")
        for fault in ("throttled", "request lost"):
            if self._world.happens(fault):
                raise StoreUnavailable(fault)

    def _arrive(self, commit: Commit, version: Version) -> None:
        outcome = self.write(commit, version)
        self._note("late request", commit, outcome)

    def _written(self, commit: Commit, version: Version) -> Committed | Conflict | Duplicates:
        outcome = self.write(commit, version)
        self._note(self.process.name, commit, outcome)
        return outcome

    def write(self, commit: Commit, version: Version) -> Committed | Conflict | Duplicates:
        """Apply the request to the table."""
        if commit.claimant and commit.marker_expiry is not None:
            return self.table.write_claimed(commit, version)
        return self.table.write(commit, version)

    def _current(self, key: str) -> Conflict:
        self.process.io("reads after the conflict")
        return Conflict(self._item(key))

    def _note(self, who: str, commit: Commit, outcome: Committed | Conflict | Duplicates) -> None:
        kind = type(outcome).__name__
        suffix = " with markers" if commit.marker_expiry is not None else ""
        self._world.note(who, f"{kind}{suffix}: {commit.key} +[{' '.join(commit.event_ids)}]")
        self._world.reach(f"{kind.lower()}{suffix}")
