"""A lender whose limits hold under concurrent checkouts: two synchronous views of a customer, one table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from candor import Count, Definitions, Entity, FeatureView, OnDemand, Sum, decided_type
from candor.champion import Champions
from candor.clock import Clock, Deadline, FixedClock
from candor.contracts import Event, encode_event, parse_event
from candor.decide import Answer, Decider, Decision, decided
from candor.decision import parse_record
from candor.features.vector import view_values
from candor.ingest import IngestOutcome, ingest
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import DecisionStore
from tests.decide.lending import NOW, RETENTION, Shelf, attempt, decider
from tests.decision_tables import row, table

LIMIT = 10_000
"""Limit per customer and hour, including the current checkout."""

VELOCITY = 30
"""Attempts within an hour beyond which the next is declined."""

customer = Entity("customer", "checkout.applicant.token")
device = Entity("device", "checkout.device.fingerprint")
checkout_decided = decided_type([customer, device])
attempts = FeatureView("attempts", customer, [checkout_decided], [Count()], ["1h"], synchronous=True)
granted = FeatureView(
    "granted", customer, [checkout_decided], [Sum("approved_amount", name="amount")], ["1h"], synchronous=True
)
by_device = FeatureView("by_device", device, [checkout_decided], [Count()], ["1h"])
DEFINITIONS = Definitions(
    entities=[customer, device],
    events=[checkout_decided],
    views=[attempts, granted, by_device],
    on_demand=[OnDemand("exposure", lambda checkout, known: checkout.total + known["granted.amount.1h"])],
)
POLICY = table(
    [
        row("velocity", reason="H1", attempts=f">= {VELOCITY}"),
        row("limit", reason="H2", exposure=f"> {LIMIT}"),
    ],
    {"attempts": 'features["attempts.count.1h"]', "exposure": 'features["request.exposure"]'},
)


class Counter:
    """One scorer over a store, which may be shared with others."""

    def __init__(self, store: DecisionStore, clock: Clock | None = None) -> None:
        clock = clock or FixedClock(NOW)
        champions = Champions(DEFINITIONS, Shelf(), clock, lambda sha, error: None)
        self.decider: Decider = decider(
            store, clock=clock, definitions=DEFINITIONS, champions=champions, fallback_policy=POLICY
        )

    def decide(self, key: str, seconds: float = 60.0, **changes: Any) -> Answer:
        return self.decider.decide(attempt(key, **changes), Deadline(seconds))

    def decision(self, key: str, **changes: Any) -> Decision:
        decision = self.decide(key, **changes).decision
        assert decision is not None
        return decision


def value(decision: Decision, feature: str) -> float:
    return decision.vector.values[DEFINITIONS.features.index(feature)]


def new_store() -> MemoryDecisionStore:
    return MemoryDecisionStore(MemoryFeatureStore())


def records(store: MemoryDecisionStore) -> list[Mapping[str, Any]]:
    """Stored records in order of their moment."""
    loaded = [json.loads(decision.record) for decision in store.decisions.values()]
    return sorted(loaded, key=lambda record: record["q"])


def counted(store: MemoryDecisionStore, token: str = "ann", q: int = NOW + 60_000) -> tuple[float, float]:
    """Attempts and granted amount of a customer, from the synchronous items."""
    numbers = []
    for view in (attempts, granted):
        reads = store.synchronous.load(view.item_keys(token))
        numbers.append(view_values(view, list(reads.values()), q)[1][0])
    return numbers[0], numbers[1]


def copies(store: MemoryDecisionStore) -> list[Event]:
    """Events of the stored decisions, as the bus delivers them, through their bytes."""
    events = [decided(parse_record(decision.record), DEFINITIONS) for decision in store.decisions.values()]
    return [parse_event(encode_event(event)) for event in events]


def deliver(store: MemoryDecisionStore, *events: Event) -> IngestOutcome:
    return ingest(
        events,
        DEFINITIONS,
        store.features,
        FixedClock(NOW + 1_000),
        RETENTION,
        synchronous_store=store.synchronous,
    )
