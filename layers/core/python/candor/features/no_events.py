"""Feature values of entities without events, and the view features that on-demand features read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from candor.contracts import Applicant, Checkout, Item, Offer
from candor.features.definitions import Definitions
from candor.features.on_demand import OnDemand
from candor.features.state import ViewState

_PROBE: Final = Checkout(
    checkout_id="probe",
    merchant_order_id="probe",
    country="US",
    currency="USD",
    total=1_000,
    items=[Item("probe", 1_000, 1)],
    applicant=Applicant("probe"),
    offer=Offer("probe", 4, 14),
)


class _Recorded(dict[str, float]):
    """Windowed features that record which of them are read."""

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: float | None = None) -> float | None:  # type: ignore[override] # dict's overloads
        self.read.add(name)
        return super().get(name, default)


def without_events(definitions: Definitions) -> tuple[float | None, ...]:
    """Values of entities without events, in the order of `Definitions.features`.

    None where that is missing, and for on-demand features, which depend on the request.
    """
    numbers = [number for view in definitions.views for number in ViewState.new(view).values(0)]
    of_views = tuple(None if math.isnan(number) else number for number in numbers)
    return of_views + (None,) * len(definitions.on_demand)


def inputs(definitions: Definitions) -> tuple[tuple[int, ...], ...]:
    """Indices of the view features that each feature reads, in the order of `Definitions.features`.

    An on-demand function is run on a probe twice: without events, and with a value for each feature. What it reads in
    neither run is not seen.
    """
    views = definitions.features[: len(definitions.features) - len(definitions.on_demand)]
    index = {name: place for place, name in enumerate(views)}
    empty = {
        name: math.nan if value is None else value
        for name, value in zip(views, without_events(definitions), strict=False)
    }
    full = dict.fromkeys(views, 1.0)
    read = [_read(feature, empty) | _read(feature, full) for feature in definitions.on_demand]
    return ((),) * len(views) + tuple(tuple(sorted(index[name] for name in names)) for names in read)


def _read(feature: OnDemand, values: Mapping[str, float]) -> set[str]:
    recorded = _Recorded(values)
    feature.answer(_PROBE, recorded)
    return recorded.read & set(values)
