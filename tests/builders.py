"""Declarations and events that the tests share."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any
from unittest.mock import patch

from candor import (
    Count,
    Definitions,
    Distinct,
    Entity,
    EventType,
    FeatureView,
    Json,
    Last,
    LastCategory,
    LastK,
    Max,
    Mean,
    Money,
    Ratio,
    Sum,
    Text,
    TimeSinceLast,
    field,
    type_is,
)
from candor.clock import DAY, FixedClock
from candor.contracts import Event
from candor.features.aggregations import REGISTRY, Aggregation
from candor.features.event_types import Field
from candor.features.vector import view_values
from candor.ingest import ingest
from candor.store.protocol import FeatureStore
from candor.updates import Retention

NOW = 1_800_000_000_000
"""15 Jan 2027, 08:00 UTC."""

RETENTION = Retention(event_ids=20 * DAY)

customer = Entity("customer", "checkout.applicant.token")
shop = Entity("shop", "merchant_id", hot=True)
paid = EventType(
    "payment.succeeded",
    entities=[customer, shop],
    fields={"amount": Money(optional=True), "kind": Text(optional=True), "note": Json(optional=True)},
)
failed = EventType("payment.failed", entities=[customer, shop], fields={"amount": Money(optional=True)})


def plain_aggregations() -> list[type[Aggregation]]:
    """Aggregations of candor that take an integer field and nothing else; the tests find a new one here."""
    return [
        kind
        for kind in REGISTRY.values()
        if kind.__init__ is Aggregation.__init__ and kind.__module__.startswith("candor.")
    ]


def all_aggregations() -> list[Aggregation]:
    """Every operation that takes any window, with and without filters."""
    large = field("amount") > 50
    return [
        Count(),
        Count(where=type_is("payment.failed")),
        *(kind("amount") for kind in plain_aggregations()),
        Sum("amount", where=type_is("payment.succeeded") & large),
        Max("amount", where=field("kind") == "a"),
        Count(where=(field("kind") == "a") | ~large, name="either"),
        Sum("amount", where=~(type_is("payment.failed") | (field("kind") == "b")), name="neither"),
        Last("amount", where=large),
        TimeSinceLast(),
        Distinct("kind"),
        Distinct("amount"),
        Distinct("amount", exact=3, name="about"),
        LastK(Mean("amount"), 3),
        LastK(Max("amount", where=large), 2),
        LastK(Sum("amount"), 3, over="events"),
        LastK(Mean("amount", where=~large), 2, over="events"),
        LastCategory("kind", ["b", "a"]),
        Ratio(Count(where=type_is("payment.failed")), Count()),
        Ratio(LastK(Sum("amount"), 2), Sum("amount"), name="recent_share"),
        Ratio(LastK(Sum("amount"), 2, over="events"), Count(), name="recent_amount"),
    ]


def view_of(windows: Sequence[str], entity: Entity = customer) -> FeatureView:
    return FeatureView(
        name=f"{entity.name}_payments",
        entity=entity,
        events=[paid, failed],
        aggregations=all_aggregations(),
        windows=windows,
    )


def definitions_of(*views: FeatureView) -> Definitions:
    """Views on the two entities; the size of items is not limited here."""
    with patch("candor.features.definitions.LARGEST_ITEM", 2**62):
        return Definitions(entities=[customer, shop], events=[paid, failed], views=views)


def event(
    event_id: str,
    occurred_at: int,
    *,
    type: str = "payment.succeeded",  # noqa: A002 - the field's own name
    entities: dict[str, str] | None = None,
    voided_at: int | None = None,
    **data: Any,
) -> Event:
    return Event(event_id, type, occurred_at, entities or {"customer": "ann"}, data, voided_at)


def take_in(
    events: Sequence[Event], definitions: Definitions, store: FeatureStore, batch: int = 100, now: int = NOW
) -> None:
    """Ingest in batches of this size; all must be applied."""
    for start in range(0, len(events), batch):
        outcome = ingest(events[start : start + batch], definitions, store, FixedClock(now), RETENTION)
        assert not outcome.refused
        assert not outcome.failed


def only_key(view: FeatureView, entity_key: str) -> str:
    """Key of the one item of an entity whose view has no shards."""
    (key,) = view.item_keys(entity_key)
    return key


def stored_values(store: FeatureStore, view: FeatureView, entity_key: str, q: int = NOW) -> Sequence[float]:
    """Values at `q` of an entity's items in the store, all shards included."""
    reads = store.load(view.item_keys(entity_key))
    return view_values(view, list(reads.values()), q)[1]


def bits(values: Iterable[float]) -> list[str]:
    """Floats to compare bit for bit: NaN equals NaN, -0.0 differs from 0.0."""
    return [value.hex() for value in values]


def random_event(number: int, definitions: Definitions, moments: Sequence[int], rng: random.Random) -> Event:
    """A valid event of a random declared type, with other types' fields as undeclared data."""
    kind = rng.choice(list(definitions.event_types.values()))
    data = {name: _random_value(field, rng) for name, field in kind.fields.items()}
    data = {name: value for name, value in data.items() if value is not None}
    for other in definitions.event_types.values():
        for name in other.fields.keys() - kind.fields.keys() - {"currency"}:
            if rng.random() < 0.1:
                data[name] = rng.choice(["stray", 7, 1.5, [1], None])
    if "currency" in kind.fields:
        data["currency"] = "USD"
    keys = {entity.name: f"{entity.name}_{rng.randrange(2)}" for entity in kind.entities}
    return Event(f"evt_{number}", kind.name, rng.choice(moments), keys, data)


def _random_value(declared: Field, rng: random.Random) -> Any:
    if declared.optional and rng.random() < 0.3:
        return None
    if declared.kind == "integer":
        return rng.choice([0, rng.randrange(-50, 100), declared.low, declared.high])
    return rng.choice(["a", "b", "ü", ""]) if declared.kind == "text" else {"any": [1.5, None]}
