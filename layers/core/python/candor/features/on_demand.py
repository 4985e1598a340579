"""On-demand features: pure functions of the request and of the windowed features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from candor.contracts import Checkout

REQUEST = "request"
"""Prefix of on-demand features' names, in place of a view's name."""

OnDemandFunction = Callable[[Checkout, Mapping[str, float]], float | int | None]


class OnDemand(msgspec.Struct, frozen=True):
    """A feature computed from the request and the windowed features by a pure function.

    Increase `version` whenever the function's meaning changes: it is part of the definitions' hash. `unit` is printed
    with its values: "money" for minor units of the checkout's currency, "seconds", "days", "count", "ratio".
    """

    name: str
    fn: OnDemandFunction
    version: int = 1
    unit: str = ""

    @property
    def feature(self) -> str:
        return f"{REQUEST}.{self.name}"

    def answer(self, checkout: Checkout, features: Mapping[str, float]) -> float | None:
        """The feature; NaN if the function's result is None or not finite; None if it raises on these inputs.

        Neither JSON nor a policy table has infinity. An exception is a bug of the definition: it must not fail the
        request, nor pass for a missing value.
        """
        try:
            number = self.fn(checkout, features)
            return float(number) if number is not None and math.isfinite(number) else math.nan
        except Exception:  # noqa: BLE001 - the lender's own code: it may raise anything
            return None

    def value(self, checkout: Checkout, features: Mapping[str, float]) -> float:
        """Value in the vector, online and offline: NaN if there is none, for whatever reason."""
        number = self.answer(checkout, features)
        return math.nan if number is None else number
