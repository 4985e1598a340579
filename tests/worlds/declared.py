"""Plain declarations of the oracle as candor's own."""

from __future__ import annotations

import candor
from candor import Definitions, Entity, EventType, FeatureView, Integer, Money, Text
from tests.worlds.oracle import (
    OPERATORS,
    Aggregation,
    Both,
    Compare,
    Condition,
    Either,
    Not,
    OfType,
    View,
    Window,
)

CUSTOMER, SHOP = Entity("customer"), Entity("shop", hot=True)
ENTITIES = {entity.name: entity for entity in (CUSTOMER, SHOP)}
PAID = EventType(
    "paid",
    [CUSTOMER, SHOP],
    {"amount": Money(optional=True), "days": Integer(optional=True), "method": Text(optional=True)},
)
FAILED = EventType("failed", [CUSTOMER, SHOP], {"amount": Money(), "method": Text(of=["card", "bank"])})
TYPES = {kind.name: kind for kind in (PAID, FAILED)}


def definitions(views: tuple[View, ...]) -> Definitions:
    """Declarations of views. Raises `DefinitionError` where candor refuses them."""
    return Definitions(entities=ENTITIES.values(), events=TYPES.values(), views=map(feature_view, views))


def feature_view(view: View) -> FeatureView:
    """A view."""
    return FeatureView(
        view.name,
        ENTITIES[view.entity],
        [TYPES[name] for name in view.types],
        [aggregation(of) for of in view.aggregations],
        [window(of) for of in view.windows],
        expires_after=view.expires_after or None,
        exact_windows=view.max_events is not None,
        max_events=view.max_events,
    )


def window(of: Window) -> str | candor.Delayed:
    """A window."""
    return candor.Delayed(of.length, delay=of.delay) if of.delay else of.length


def aggregation(of: Aggregation):
    """An aggregation."""
    return MADE[of.kind](
        of, {"name": of.name or None, "where": None if of.where is None else predicate(of.where)}
    )


def plain(kind):
    """Constructor of an aggregation of a field."""
    return lambda of, more: kind(of.field, **more)


MADE = {
    "count": lambda _, more: candor.Count(**more),
    "sum": plain(candor.Sum),
    "mean": plain(candor.Mean),
    "variance": plain(candor.Variance),
    "min": plain(candor.Min),
    "max": plain(candor.Max),
    "first": plain(candor.First),
    "last": plain(candor.Last),
    "time_since_last": lambda _, more: candor.TimeSinceLast(**more),
    "distinct": lambda of, more: candor.Distinct(of.field, exact=of.exact, **more),
    "last_category": lambda of, more: candor.LastCategory(of.field, list(of.categories), **more),
    "decayed_sum": lambda of, more: candor.DecayedSum(of.field, half_life=of.time, **more),
    "last_k": lambda of, more: candor.LastK(aggregation(of.of), of.k, over=of.over, name=more["name"]),
    "ratio": lambda of, more: candor.Ratio(aggregation(of.of), aggregation(of.to), name=more["name"]),
    "rate_of_change": lambda of, more: candor.RateOfChange(aggregation(of.of), of.time, name=more["name"]),
}
"""Constructor of an aggregation, by kind."""


def predicate(of: Condition):
    """A filter."""
    match of:
        case Compare():
            return OPERATORS[of.sign](candor.field(of.field), of.value)
        case OfType():
            return candor.type_is(of.type)
        case Not():
            return ~predicate(of.of)
        case Both():
            return predicate(of.left) & predicate(of.right)
        case Either():
            return predicate(of.left) | predicate(of.right)
