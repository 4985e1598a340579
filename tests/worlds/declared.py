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

PLAIN = {
    "sum": candor.Sum,
    "mean": candor.Mean,
    "variance": candor.Variance,
    "min": candor.Min,
    "max": candor.Max,
    "first": candor.First,
    "last": candor.Last,
}


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
    name, where = of.name or None, None if of.where is None else predicate(of.where)
    match of.kind:
        case "count":
            return candor.Count(where=where, name=name)
        case "time_since_last":
            return candor.TimeSinceLast(where=where, name=name)
        case "distinct":
            return candor.Distinct(of.field, exact=of.exact, where=where, name=name)
        case "last_category":
            return candor.LastCategory(of.field, list(of.categories), where=where, name=name)
        case "decayed_sum":
            return candor.DecayedSum(of.field, half_life=of.time, where=where, name=name)
        case "last_k":
            return candor.LastK(aggregation(of.of), of.k, over=of.over, name=name)
        case "ratio":
            return candor.Ratio(aggregation(of.of), aggregation(of.to), name=name)
        case "rate_of_change":
            return candor.RateOfChange(aggregation(of.of), of.time, name=name)
    return PLAIN[of.kind](of.field, where=where, name=name)


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
