"""Features that need the request: pure functions of it and of the windowed features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from candor.contracts import Checkout

REQUEST = "request"
"""Where on-demand features stand: first part of their names, as a view's name is of windowed ones."""

OnDemandFunction = Callable[[Checkout, Mapping[str, float]], float | int | None]


class OnDemand(msgspec.Struct, frozen=True):
    """A feature computed from the request and the windowed features by a pure function.

    Raise `version` whenever the function's meaning changes: it is part of the definition's hash.
    """

    name: str
    fn: OnDemandFunction
    version: int = 1

    @property
    def feature(self) -> str:
        return f"{REQUEST}.{self.name}"

    def answer(self, checkout: Checkout, features: Mapping[str, float]) -> float | None:
        """The feature; NaN where the function has no finite answer; None where it fails on these inputs.

        Neither JSON nor a policy table knows infinity. A failure is a slip in the definition: it may not cost an
        applicant the answer, nor pass for a missing value.
        """
        try:
            number = self.fn(checkout, features)
            return float(number) if number is not None and math.isfinite(number) else math.nan
        except Exception:  # noqa: BLE001 - the lender's own code: it may raise anything
            return None

    def value(self, checkout: Checkout, features: Mapping[str, float]) -> float:
        """The number that stands in the vector, online and offline: NaN without an answer, for whatever reason."""
        number = self.answer(checkout, features)
        return math.nan if number is None else number
