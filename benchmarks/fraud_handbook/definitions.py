"""Features of every customer and terminal: count, mean, largest amount and share of fraud."""

from __future__ import annotations

from candor import Count, Definitions, Entity, EventType, FeatureView, Integer, Max, Mean, Money, Ratio, field

WINDOWS = ("1d", "7d", "30d")

CUSTOMER = Entity("customer", "checkout.applicant.token")
TERMINAL = Entity("terminal", "merchant_id")
TRANSACTION = EventType("card.used", [CUSTOMER, TERMINAL], {"amount": Money(), "fraud": Integer()})


def _view(entity: Entity) -> FeatureView:
    share = Ratio(Count(where=field("fraud") == 1), Count(), name="fraud_rate")
    wanted = [Count(), Mean("amount", name="mean"), Max("amount", name="max"), share]
    return FeatureView(f"{entity.name}_cards", entity, [TRANSACTION], wanted, WINDOWS)


VIEWS = {entity.name: _view(entity) for entity in (CUSTOMER, TERMINAL)}
"""By kind of entity."""

DEFINITIONS = Definitions(entities=[CUSTOMER, TERMINAL], events=[TRANSACTION], views=VIEWS.values())
VALUES = [feature.name.partition(".")[2].replace(".", "_") for feature in VIEWS["customer"].features]
"""Columns of both sides: count_1d … fraud_rate_30d."""
