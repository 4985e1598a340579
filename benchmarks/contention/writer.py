"""Writer process: takes events from its own queue in batches and puts failed ones back."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks import engine
from benchmarks.contention.lender import DEFINITIONS, VIEWS, events_of
from benchmarks.fleet import Report
from candor.clock import DAY, SystemClock
from candor.contracts import Event
from candor.errors import StoreUnavailable
from candor.features.state import Marker
from candor.features.vector import Read
from candor.ingest import ingest
from candor.store.protocol import Commit, Committed, Conflict, Duplicates, FeatureStore
from candor.updates import Retention

RETENTION = Retention(event_ids=20 * DAY)
THREADS = 8
"""Items that one call writes in parallel, as in the deployed function."""

SENT_AGAIN = 0.05
"""Share of a neighbour's events that arrive a second time, at this writer."""

_PAUSE_S = 0.2
"""A queue hides a failed message before it delivers it again."""


@dataclass(frozen=True)
class WriterJob:
    """Number of the writer and of all writers, events of each, customers, deliveries per call, moment (ms)."""

    writer: int
    writers: int
    events: int
    customers: int
    batch: int
    now_ms: int


@dataclass
class WriterResult:
    """Result of a writer: outcomes of commits by view, and deliveries."""

    commits: dict[str, Counter[str]] = field(default_factory=lambda: {view: Counter() for view in VIEWS})
    deliveries: int = 0
    failed: int = 0
    """Deliveries that had to be repeated."""
    causes: Counter[str] = field(default_factory=Counter)
    cpu_ns: int = 0


class Counting:
    """Feature store that counts the outcome of each commit."""

    def __init__(self, store: FeatureStore, commits: Mapping[str, Counter[str]]) -> None:
        self._store = store
        self._commits = commits

    def load(self, keys: Sequence[str]) -> Mapping[str, Read]:
        return self._store.load(keys)

    def markers(self, key: str, event_ids: Sequence[str]) -> Mapping[str, Marker]:
        return self._store.markers(key, event_ids)

    def commit(self, commit: Commit) -> Committed | Conflict | Duplicates:
        counts = self._commits[commit.key.partition("@")[0]]
        try:
            outcome = self._store.commit(commit)
        except StoreUnavailable:
            counts["unavailable"] += 1
            raise
        counts[type(outcome).__name__.lower()] += 1
        return outcome


def work(job: WriterJob, report: Report) -> WriterResult:
    """Deliver this writer's events, and duplicates of a neighbour's, until none fails."""
    result = WriterResult()
    store = Counting(engine.store(), result.commits)
    queue = deque(_deliveries(job))
    began = time.process_time_ns()
    while queue:
        events = [queue.popleft() for _ in range(min(job.batch, len(queue)))]
        outcome = ingest(events, DEFINITIONS, store, SystemClock(), RETENTION, writers=THREADS)
        if outcome.refused:
            raise RuntimeError(f"an event was refused: {next(iter(outcome.refused.values()))}")
        again = [event for event in events if event.id in outcome.failed]
        queue.extend(again)
        result.deliveries += len(events)
        result.failed += len(again)
        result.causes.update(outcome.failed.values())
        report(len(events) - len(again))
        if again:
            time.sleep(_PAUSE_S)
    result.cpu_ns = time.process_time_ns() - began
    return result


def _deliveries(job: WriterJob) -> list[Event]:
    own = events_of(job.writer, job.events, job.customers, job.now_ms)
    neighbours = events_of((job.writer + 1) % job.writers, job.events, job.customers, job.now_ms)
    deliveries = [*own, *neighbours[: round(job.events * SENT_AGAIN)]]
    random.Random(job.writer).shuffle(deliveries)
    return deliveries
