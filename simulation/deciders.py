"""Simulated scorers: decisions on synchronous views, in processes that can die between any two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from candor.contracts import Event
from candor.errors import StoreUnavailable
from candor.features.event_types import DECIDED
from candor.features.vector import DecodedItem, decode_items, values_of
from candor.store.protocol import Conflict
from candor.synchronous import SynchronousViews
from simulation.store import Client, Surroundings
from simulation.traffic import CUSTOMER, SimulatedLender
from simulation.workers import Killed, Process

TURNS, ATTEMPTS = 6, 4
"""Decisions retried per call on a conflict, and calls of a merchant under the same key."""


class Deciders:
    """Decides checkouts of a customer, many concurrently; the table records what each decision saw."""

    def __init__(
        self,
        world: Surroundings,
        lender: SimulatedLender,
        client: Callable[[Process], Client],
        max_skew_ms: int,
    ) -> None:
        self._world = world
        self._lender = lender
        self._client = client
        self._max_skew_ms = max_skew_ms
        self._views = [view for view in lender.definitions.views if view.synchronous]
        self.open = 0
        self._synchronous = SynchronousViews(lender.definitions, lender.retention)

    def checkout(self, decision_id: str, customer: str, amount: int) -> None:
        """Start one checkout now."""
        self.open += 1
        self._world.scheduler.spawn(lambda: self._call(decision_id, customer, amount))

    def _call(self, decision_id: str, customer: str, amount: int) -> None:
        """Call as the merchant does: until answered, always under the same key."""
        scheduler = self._world.scheduler
        for _ in range(ATTEMPTS):
            skew = scheduler.rng.randint(-self._max_skew_ms, self._max_skew_ms)
            process = Process(self._world, f"till {decision_id}", skew)
            try:
                self._decide(process, decision_id, customer, amount)
            except (Killed, StoreUnavailable):
                scheduler.sleep(scheduler.rng.randint(10, 2_000))
            else:
                break
        self.open -= 1

    def _decide(self, process: Process, decision_id: str, customer: str, amount: int) -> None:
        keys = {view.name: view.item_keys(customer) for view in self._views}
        client = self._client(process)
        for _ in range(TURNS):
            reads = client.load(self._synchronous.keys(keys))
            now_ms = process.now_ms()
            q, items = self._synchronous.live(
                keys, decode_items(self._lender.definitions, reads, keys), now_ms
            )
            if any(item.state is None for item in items.values()):
                raise StoreUnavailable("what others were granted is not known")
            event = Event(decision_id, DECIDED, q, {CUSTOMER.name: customer}, _data(decision_id, amount))
            values = self._values(items, keys, q)
            commits = self._synchronous.commits(event, keys, items, now_ms)
            outcome = client.decide(event, commits, values)
            if not isinstance(outcome, Conflict):
                self._world.reach("decided" if outcome is event else "decision answered again")
                return
            self._world.reach("contended")
        raise StoreUnavailable("until the deadline others wrote to the same items")

    def _values(
        self, items: Mapping[str, DecodedItem], keys: Mapping[str, Sequence[str]], q: int
    ) -> Sequence[Sequence[float]]:
        return [values_of(view, [items[key] for key in keys[view.name]], q)[1] for view in self._views]


def _data(decision_id: str, amount: int) -> dict[str, str | int]:
    return {
        "checkout_id": decision_id,
        "merchant": "m",
        "total": amount,
        "approved_amount": amount,
        "currency": "EUR",
        "outcome": "approved",
    }
