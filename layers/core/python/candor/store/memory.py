"""The in-memory twin: same promises, no network. For tests, simulation and benchmarks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence

from candor.features.vector import ABSENT, Read
from candor.store.protocol import (
    Commit,
    Committed,
    Conflict,
    Duplicates,
    Snapshot,
    StoredDecision,
    next_version,
)


class MemoryFeatureStore:
    """Feature items and markers in dictionaries. Thread-safe."""

    def __init__(self) -> None:
        self.items: dict[str, Read] = {}
        self.markers: set[tuple[str, str]] = set()
        self._births = itertools.count(1)
        self._lock = threading.Lock()

    def load(self, keys: Sequence[str]) -> Mapping[str, Read]:
        return {key: self.items.get(key, ABSENT) for key in keys}

    def commit(self, commit: Commit) -> Committed | Conflict | Duplicates:
        with self._lock:
            current = self.items.get(commit.key, ABSENT)
            if current.version != commit.seen:
                return Conflict(current)
            if commit.marker_expiry is not None:
                marks = {(commit.key, event_id) for event_id in commit.event_ids}
                if known := marks & self.markers:
                    return Duplicates(frozenset(event_id for _, event_id in known))
                self.markers |= marks
            version = next_version(commit.seen, next(self._births))
            self.items[commit.key] = Read("present", commit.blob, version)
            return Committed(version)


class MemoryDecisionStore:
    """Decisions in a dictionary, beside a feature store to read from. Thread-safe."""

    def __init__(self, features: MemoryFeatureStore, champion: str | None = None) -> None:
        self.features = features
        self.champion = champion
        self.decisions: dict[str, StoredDecision] = {}
        self._lock = threading.Lock()

    def read(self, keys: Sequence[str], timeout_s: float) -> Snapshot:
        return Snapshot(self.features.load(keys), self.champion)

    def record(self, decision: StoredDecision, timeout_s: float) -> StoredDecision | None:
        with self._lock:
            stored = self.decisions.setdefault(decision.id, decision)
        return None if stored.record == decision.record else stored
