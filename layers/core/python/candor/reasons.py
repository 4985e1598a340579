"""Reasons: what a declined person is told, from the component that failed.

Model reasons are contributions summed per consumer-facing factor, relative to applicants near the cut-off
(Regulation B, comment 9(b)(2)-5 (a)); at most four (comment 9(b)(2)-1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from candor.errors import DefinitionError

MAX_REASONS = 4


class Reason(msgspec.Struct, frozen=True):
    """One entry of the catalogue: `text` names a factor, without thresholds; `features` are name globs."""

    code: str
    text: str
    factor: str
    features: tuple[str, ...] = ()


class Catalogue:
    """The reasons of a bundle, with every feature assigned to exactly one factor.

    Raises `DefinitionError` if a feature has no factor or two: a scored factor may not be hidden.
    """

    def __init__(self, reasons: Iterable[Reason], features: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        if len({reason.code for reason in self.reasons}) != len(self.reasons):
            raise DefinitionError("two reasons share a code")
        factors = [reason.factor for reason in self.reasons if reason.features]
        if len(set(factors)) != len(factors):
            raise DefinitionError("two reasons share a factor: both would be told for the same contributions")
        self.factor_of = tuple(self._factor(name) for name in features)

    def _factor(self, feature: str) -> int:
        found = [
            place
            for place, reason in enumerate(self.reasons)
            if any(fnmatchcase(feature, glob) for glob in reason.features)
        ]
        if len(found) != 1:
            raise DefinitionError(
                f'feature "{feature}" belongs to {len(found)} reasons; it needs exactly one'
            )
        return found[0]

    def by_factor(self, contributions: Sequence[float]) -> dict[str, float]:
        """Contributions (log odds, one a feature) summed per factor."""
        sums = {reason.factor: 0.0 for reason in self.reasons if reason.features}
        for place, contribution in zip(self.factor_of, contributions, strict=True):
            sums[self.reasons[place].factor] += contribution
        return sums

    def model_reasons(self, contributions: Sequence[float], reference: Mapping[str, float]) -> list[str]:
        """Codes of the factors that raised the risk most above the reference; ties in catalogue order.

        Always at least one: the factor nearest to raising it, if none does.
        """
        factors = self.by_factor(contributions)
        ranked = sorted(
            (reason for reason in self.reasons if reason.features),
            key=lambda reason: -(factors[reason.factor] - reference.get(reason.factor, 0.0)),
        )
        raised = [r.code for r in ranked if factors[r.factor] > reference.get(r.factor, 0.0)]
        return raised[:MAX_REASONS] or [ranked[0].code]
