"""Units of features, as their declarations say. They are for people: no value and no hash depends on them."""

from __future__ import annotations

from typing import Final

from candor.features.aggregations import Aggregation
from candor.features.composed import LastK
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from candor.units import COUNT, RATIO, SECONDS, UNKNOWN

_OWN: Final = {
    "count": COUNT,
    "distinct": COUNT,
    "time_since_last": SECONDS,
    "ratio": RATIO,
    "rate_of_change": RATIO,
    "last_category": UNKNOWN,
}
"""Units of the operations whose result is not in the unit of their field."""


def units(definitions: Definitions) -> dict[str, str]:
    """Unit of every feature by its name, in order."""
    windowed = {name: unit for view in definitions.views for name, unit in view_units(view).items()}
    return windowed | {feature.feature: feature.unit for feature in definitions.on_demand}


def view_units(view: FeatureView) -> dict[str, str]:
    """Unit of every feature of a view by its name, in order."""
    return {feature.name: _unit(view, feature.aggregation) for feature in view.features}


def _unit(view: FeatureView, aggregation: Aggregation) -> str:
    if aggregation.op in _OWN:
        return _OWN[aggregation.op]
    field = aggregation.field or ""
    declared = {event.fields[field].unit for event in view.events if field in event.fields}
    unit = declared.pop() if len(declared) == 1 else UNKNOWN
    squared = aggregation.op == "variance" or (
        isinstance(aggregation, LastK) and aggregation.of.op == "variance"
    )
    return f"{unit}²" if unit and squared else unit
