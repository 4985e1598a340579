"""In-memory stores with the same contract, for tests, simulation, benchmarks, and candor as a library."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence

from candor.features.state import Marker
from candor.features.vector import ABSENT, Read, Version
from candor.store.protocol import (
    Challenger,
    Commit,
    Committed,
    Conflict,
    Contended,
    Duplicates,
    Snapshot,
    StoredDecision,
    completion_key,
    marked,
    next_version,
)


class MemoryFeatureStore:
    """Feature items and markers in dictionaries. Thread-safe; nothing expires or persists."""

    def __init__(self) -> None:
        self.items: dict[str, Read] = {}
        self.marks: dict[tuple[str, str], Marker] = {}
        self.claims: dict[tuple[str, str], str] = {}
        self.completions: set[str] = set()
        self._births = itertools.count(1)
        self._lock = threading.Lock()

    def load(self, keys: Sequence[str]) -> Mapping[str, Read]:
        return {key: self.items.get(key, ABSENT) for key in keys}

    def commit(self, commit: Commit) -> Committed | Conflict | Duplicates:
        with self._lock:
            current = self.items.get(commit.key, ABSENT)
            marks = _marks(commit)
            claimed = bool(commit.claimant and marks)
            if not claimed and current.version != commit.seen:
                return Conflict(current)
            if claimed and completion_key(commit.key, commit.claimant) in self.completions:
                return Duplicates(frozenset(commit.event_ids))
            known = {
                mark for mark in marks if mark in self.marks and not (claimed and self._claims(commit, mark))
            }
            if known:
                return Duplicates(frozenset(event_id for _, event_id in known))
            self.marks |= marks
            if claimed:
                self.claims |= dict.fromkeys(marks, commit.claimant)
                if current.version != commit.seen:
                    return Conflict(current)
                self.completions.add(completion_key(commit.key, commit.claimant))
            return Committed(self._write(commit))

    def _claims(self, commit: Commit, mark: tuple[str, str]) -> bool:
        return self.claims.get(mark) == commit.claimant

    def markers(self, key: str, event_ids: Sequence[str]) -> Mapping[str, Marker]:
        marks = {event_id: self.marks.get((key, event_id)) for event_id in event_ids}
        return {
            event_id: marker._replace(fingerprint=0) if (key, event_id) in self.claims else marker
            for event_id, marker in marks.items()
            if marker is not None
        }

    def commit_together(self, commits: Sequence[Commit]) -> Contended | None:
        """Write all commits or none; None if written. An existing marker does not return its item."""
        with self._lock:
            marks = {commit.key: _marks(commit) for commit in commits}
            now = {commit.key: self.items.get(commit.key, ABSENT) for commit in commits}
            stale = {
                commit.key: now[commit.key] for commit in commits if now[commit.key].version != commit.seen
            }
            if stale or any(item_marks.keys() & self.marks.keys() for item_marks in marks.values()):
                return Contended(stale)
            for commit in commits:
                self.marks |= marks[commit.key]
                self._write(commit)
        return None

    def _write(self, commit: Commit) -> Version:
        version = next_version(commit.seen, next(self._births))
        self.items[commit.key] = Read("present", commit.blob, version)
        return version


def _marks(commit: Commit) -> dict[tuple[str, str], Marker]:
    expires_at = commit.marker_expiry or 0
    return {
        (commit.key, event_id): Marker(fingerprint, expires_at) for event_id, fingerprint in marked(commit)
    }


class MemoryDecisionStore:
    """Decisions in a dictionary, with feature stores to read from. Thread-safe."""

    def __init__(
        self,
        features: MemoryFeatureStore,
        champion: str | None = None,
        synchronous: MemoryFeatureStore | None = None,
    ) -> None:
        self.features = features
        self.synchronous = synchronous or MemoryFeatureStore()
        self.champion = champion
        self.views: Mapping[str, str] | None = None
        self.challenger: Challenger | None = None
        self.decisions: dict[str, StoredDecision] = {}
        self._lock = threading.Lock()

    def read(self, keys: Sequence[str], timeout_s: float, synchronous: Sequence[str] = ()) -> Snapshot:
        reads = {**self.features.load(keys), **self.synchronous.load(synchronous)}
        return Snapshot(reads, self.champion, self.views, self.challenger)

    def record(
        self, decision: StoredDecision, timeout_s: float, commits: Sequence[Commit] = ()
    ) -> StoredDecision | Contended | None:
        with self._lock:
            stored = self.decisions.get(decision.id)
            if stored is not None:
                return None if stored.record == decision.record else stored
            contended = self.synchronous.commit_together(commits)
            if contended is None:
                self.decisions[decision.id] = decision
        return contended
