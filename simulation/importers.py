"""Simulated bulk imports: the fill of `candor events import`, in processes that can die between any two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from candor.clock import SECOND
from candor.contracts import Event
from candor.features.views import FeatureView
from history.imports.fill import Filled, fill
from simulation.scheduler import Scheduler
from simulation.store import Client, Surroundings
from simulation.traffic import SimulatedLender
from simulation.workers import Killed, Process

LONGEST_PAUSE = 300 * SECOND
"""Longest pause (ms) until somebody runs an interrupted import again."""


class Importers:
    """Imports events in bulk while the queue brings others, and copies of the same ones; each until it is done."""

    def __init__(
        self,
        world: Surroundings,
        lender: SimulatedLender,
        client: Callable[[Process, FeatureView], Client],
        stale: Callable[[str], None],
        max_skew_ms: int,
    ) -> None:
        self._world = world
        self._lender = lender
        self._client = client
        self._stale = stale
        self._max_skew_ms = max_skew_ms
        self._begun = 0
        self.open = 0

    def start(self, events: Sequence[Event]) -> None:
        """Begin an import of these events now."""
        self._begun += 1
        self.open += 1
        items = self._by_item(sorted(events, key=lambda event: (event.moment, event.dedup_id)))
        name = f"import{self._begun}"
        self._world.note(name, f"begins: {' '.join(event.dedup_id for event in events)}")
        self._world.scheduler.spawn(lambda: self._until_done(name, items))

    def _by_item(self, events: Sequence[Event]) -> Mapping[tuple[FeatureView, str], list[Event]]:
        items: dict[tuple[FeatureView, str], list[Event]] = {}
        for event in events:
            for view in self._lender.definitions.views_by_event[event.type]:
                token = event.entities.get(view.entity.name)
                if token is not None:
                    items.setdefault((view, view.item_key(token, event.id)), []).append(event)
        return items

    def _until_done(self, name: str, items: Mapping[tuple[FeatureView, str], list[Event]]) -> None:
        scheduler: Scheduler = self._world.scheduler
        while True:
            skew = scheduler.rng.randint(-self._max_skew_ms, self._max_skew_ms)
            process = Process(self._world, name, skew)
            try:
                filled = self._run(process, name, items)
            except Killed:
                self._world.reach("importer began anew")
            else:
                if not filled.failures:
                    break
                self._world.note(name, f"left {dict(filled.failures)}")
            scheduler.sleep(scheduler.rng.randint(SECOND, LONGEST_PAUSE))
        self._world.reach("import done")
        self.open -= 1

    def _run(
        self, process: Process, name: str, items: Mapping[tuple[FeatureView, str], list[Event]]
    ) -> Filled:
        total = Filled()

        def client(view: FeatureView) -> Client:
            return self._client(process, view)

        for filled in fill(items, client, process, self._lender.retention, name):
            total += filled
        process.io("items filled")
        for key in sorted(total.stale):
            self._stale(key)
        if total.known:
            self._world.reach("imported event known")
        return total
