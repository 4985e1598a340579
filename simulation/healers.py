"""Simulated healers: the steps of the function `heal_features`, in processes that can die between any two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from candor.clock import MINUTE, SECOND
from candor.contracts import Event
from candor.errors import StoreUnavailable
from candor.features.views import FeatureView
from candor.store.protocol import Commit, Committed
from history.rebuild.recompute import healed_commit, healing_commit, state_of
from simulation.scheduler import Scheduler
from simulation.store import Client, Surroundings, Table
from simulation.workers import Killed, Process

LATEST_LOG = 5 * MINUTE
"""Largest delay (ms) of a commit on its way to the archive."""


class Healers:
    """Heals items by key until they are exact; the queue redelivers a key until a healer is done with it."""

    def __init__(
        self,
        world: Surroundings,
        views: Mapping[str, FeatureView],
        events: Mapping[str, Event],
        table: Callable[[FeatureView], Table],
        client: Callable[[Process, FeatureView], Client],
        max_skew_ms: int,
    ) -> None:
        self._world = world
        self._views = views
        self._events = events
        self._table = table
        self._client = client
        self._max_skew_ms = max_skew_ms
        self._open: dict[str, int] = {}
        self.seconds: list[float] = []

    def __len__(self) -> int:
        """Number of items to heal."""
        return len(self._open)

    def heal(self, key: str) -> None:
        """Put a stale item on the queue, at least once."""
        if key not in self._open:
            self._open[key] = self._world.scheduler.now
            self._world.scheduler.spawn(lambda: self._until_healed(key))

    def _until_healed(self, key: str) -> None:
        scheduler: Scheduler = self._world.scheduler
        view = self._views[key.partition("@")[0]]
        while True:
            skew = scheduler.rng.randint(-self._max_skew_ms, self._max_skew_ms)
            process = Process(self._world, "healer", skew)
            try:
                if self._step(process, view, key):
                    break
            except (Killed, StoreUnavailable):
                self._world.reach("healer began anew")
            scheduler.sleep(scheduler.rng.randint(SECOND, LATEST_LOG))
        self.seconds.append((scheduler.now - self._open.pop(key)) / SECOND)

    def _step(self, process: Process, view: FeatureView, key: str) -> bool:
        """Begin to heal, or finish what was begun; True if nothing is left to do."""
        client = self._client(process, view)
        read = client.load([key])[key]
        state = state_of(view, read)
        if read.version is None or not (state.stale or state.delta):
            return True
        if state.delta is None:
            commit = healing_commit(view, key, read, process.now_ms())
            assert commit is not None
            self._write(client, commit, "began to heal")
            return False
        process.io("reads the log")
        events = self._held(view, key, state.healing_from or 0)
        self._write(client, healed_commit(view, key, read, events, process.now_ms()), "healed")
        return False

    def _write(self, client: Client, commit: Commit, what: str) -> None:
        if isinstance(client.commit(commit), Committed):
            self._world.reach(what)

    def _held(self, view: FeatureView, key: str, n: int) -> list[Event]:
        """Return the events that the item held in its version `n`, and those of its earlier births."""
        table = self._table(view)
        ids = [
            event_id for commit in [*table.earlier[key], *table.log[key][:n]] for event_id in commit.event_ids
        ]
        return [self._events[event_id] for event_id in ids]
