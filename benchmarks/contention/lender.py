"""One busy merchant and many customers, and the events that name them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from candor import Count, Definitions, Entity, EventType, FeatureView, Max, Money, Sum
from candor.clock import HOUR
from candor.contracts import Event

WINDOWS = ("1h", "24h", "30d", "lifetime")

MERCHANT = Entity("merchant", "merchant_id", hot=True)
CUSTOMER = Entity("customer", "checkout.applicant.token")
PAID = EventType("payment.succeeded", [MERCHANT, CUSTOMER], {"amount": Money()})
VIEWS = {
    entity.name: FeatureView(entity.name, entity, [PAID], [Count(), Sum("amount"), Max("amount")], WINDOWS)
    for entity in (MERCHANT, CUSTOMER)
}
DEFINITIONS = Definitions(entities=[MERCHANT, CUSTOMER], events=[PAID], views=VIEWS.values())

THE_MERCHANT = "mer_1"
Totals = Counter[tuple[str, str, str]]
"""("count" or "sum", view, entity) → total that must be stored at the end."""


def events_of(writer: int, size: int, customers: int, now_ms: int) -> list[Event]:
    """Events of one writer, deterministic in the arguments, in the hour before `now_ms`."""
    rng = random.Random(writer)
    return [
        Event(
            f"evt_{writer}_{number}",
            PAID.name,
            now_ms - rng.randrange(HOUR),
            {"merchant": THE_MERCHANT, "customer": f"app_{rng.randrange(customers)}"},
            {"amount": rng.randrange(100, 100_000)},
        )
        for number in range(size)
    ]


def totals(events: Iterable[Event]) -> Totals:
    """Expected event counts and sums of amounts by entity."""
    counts: Totals = Counter()
    for event in events:
        for view, entity in event.entities.items():
            counts["count", view, entity] += 1
            counts["sum", view, entity] += event.data["amount"]
    return counts
