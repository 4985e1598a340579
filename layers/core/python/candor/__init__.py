"""Candor: one definition of a feature, decisions that replay bit for bit.

This module is the declaration language, imported by a lender's definitions.
"""

from candor import msgspec_import  # noqa: F401 - before anything else imports msgspec
from candor.acceptance import Acceptance
from candor.contracts import Checkout, Event
from candor.features.aggregations import (
    Count,
    First,
    Last,
    LastCategory,
    Max,
    Mean,
    Min,
    Sum,
    TimeSinceLast,
    Variance,
)
from candor.features.composed import LastK, Ratio
from candor.features.decayed import DecayedSum, RateOfChange
from candor.features.definitions import Definitions
from candor.features.distinct import Distinct
from candor.features.event_types import Entity, EventType, Integer, Json, Money, Text, decided_type
from candor.features.labels import Instalments, Label, Outcome
from candor.features.on_demand import OnDemand
from candor.features.predicates import field, type_is
from candor.features.views import FeatureView
from candor.features.windows import Delayed
from candor.reasons import Monotone, Reason
from candor.regulation import Agency, CreditScore, ModelCard, Party, Profile

__all__ = [
    "Acceptance",
    "Agency",
    "Checkout",
    "Count",
    "CreditScore",
    "DecayedSum",
    "Definitions",
    "Delayed",
    "Distinct",
    "Entity",
    "Event",
    "EventType",
    "FeatureView",
    "First",
    "Instalments",
    "Integer",
    "Json",
    "Label",
    "Last",
    "LastCategory",
    "LastK",
    "Max",
    "Mean",
    "Min",
    "ModelCard",
    "Money",
    "Monotone",
    "OnDemand",
    "Outcome",
    "Party",
    "Profile",
    "RateOfChange",
    "Ratio",
    "Reason",
    "Sum",
    "Text",
    "TimeSinceLast",
    "Variance",
    "decided_type",
    "field",
    "type_is",
]
