"""Consumer reports in a feature vector: those of views that declare an agency."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from candor.clock import SECOND
from candor.features.aggregations import LastCategory
from candor.features.definitions import Definitions
from candor.features.vector import FeatureVector
from candor.features.views import FeatureView
from candor.regulation import AdverseAction, Agency, ConsumerReport, CreditScore, DisclosedScore

_USED: Final = ("present", "stale")
"""States of a view that holds a report."""


def consumer_reports(definitions: Definitions, vector: FeatureVector, q: int) -> tuple[ConsumerReport, ...]:
    """The consumer reports whose data were in a vector at moment `q` (ms UTC), in the order of the views."""
    declared = [(view, view.agency) for view in definitions.views if view.agency is not None]
    if not declared:
        return ()
    named = dict(zip(definitions.features, vector.values, strict=True))
    return tuple(
        _report(view, agency, named, q) for view, agency in declared if vector.states[view.name] in _USED
    )


def with_consumer_reports(
    owed: AdverseAction, definitions: Definitions, vector: FeatureVector, q: int
) -> AdverseAction:
    """The owed notice with the consumer reports that the decision at moment `q` (ms UTC) used."""
    reports = consumer_reports(definitions, vector, q)
    return replace(owed, consumer_reports=reports) if reports else owed


def _report(view: FeatureView, agency: Agency, named: Mapping[str, float], q: int) -> ConsumerReport:
    score = None if agency.score is None else _score(view, agency.score, named, q)
    return ConsumerReport(agency.name, agency.address, agency.telephone, score)


def _score(
    view: FeatureView, declared: CreditScore, named: Mapping[str, float], q: int
) -> DisclosedScore | None:
    """The score as the vector holds it; None if the report has none."""
    value = named[f"{view.name}.{declared.value}"]
    if math.isnan(value):
        return None
    age_s = math.nan if declared.age is None else named[f"{view.name}.{declared.age}"]
    return DisclosedScore(
        value=int(value) if value == int(value) else value,
        lowest=declared.lowest,
        highest=declared.highest,
        made_on=None if math.isnan(age_s) else _date(q - int(age_s * SECOND)),
        factors=tuple(_factors(view, declared, named)),
        inquiries=declared.inquiries is not None and named[f"{view.name}.{declared.inquiries}"] > 0,
    )


def _factors(view: FeatureView, declared: CreditScore, named: Mapping[str, float]) -> Iterator[str]:
    """Texts of the recorded key factors, in the declared order."""
    aggregations = {feature.name: feature.aggregation for feature in view.features}
    for factor in declared.factors:
        name = f"{view.name}.{factor}"
        aggregation, value = aggregations[name], named[name]
        if isinstance(aggregation, LastCategory) and value >= 0:
            category = aggregation.categories[int(value)]
            yield declared.texts.get(category, category)


def _date(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / SECOND, UTC):%Y-%m-%d}"
