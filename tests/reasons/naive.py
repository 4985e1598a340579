"""Principal reasons by a plain reading of the rule, a feature and a reason at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from candor import Reason
from candor.reasons import ReasonBasis


class Applicant:
    """One applicant under a catalogue; every question is answered from its definition."""

    def __init__(
        self,
        reasons: Sequence[Reason],
        features: Sequence[str],
        basis: ReasonBasis,
        values: Sequence[float],
        states: Mapping[str, str],
    ) -> None:
        self.reasons, self.features = reasons, features
        self.none = dict(zip(features, basis.no_events, strict=True))
        self.adverse = dict(zip(features, basis.adverse, strict=True))
        self.reference = dict(zip(features, basis.reference, strict=True))
        self.inputs = {
            name: [features[index] for index in read]
            for name, read in zip(features, basis.inputs, strict=True)
        }
        self.value = dict(zip(features, values, strict=True))
        self.states = states

    def of(self, globs: Sequence[str]) -> list[str]:
        return [name for name in self.features if any(fnmatchcase(name, glob) for glob in globs)]

    def state(self, feature: str) -> str:
        return self.states.get(feature.split(".", maxsplit=1)[0], "present")

    def own(self, feature: str) -> Reason:
        [reason] = [reason for reason in self.reasons if feature in self.of(reason.features)]
        return reason

    def without_events(self, feature: str) -> bool:
        value, none = self.value[feature], self.none[feature]
        return math.isnan(value) if none is None else value == none

    def speaks(self, feature: str) -> bool:
        """The feature says something of its own reason."""
        value = self.value[feature]
        if math.isnan(value) or (value <= 0 if self.adverse[feature] else self.without_events(feature)):
            return False
        return not self.inputs[feature] or any(self.speaks(read) for read in self.inputs[feature])

    def none_of_it(self, feature: str) -> bool:
        return self.adverse[feature] and self.value[feature] <= 0

    def is_true(self, reason: Reason, kind: str) -> bool:
        if kind == "unavailable":
            return any(self.state(name) == "unavailable" for name in self.of(reason.unavailable))
        return all(
            self.without_events(name) and self.state(name) not in ("unavailable", "stale")
            for name in self.of(reason.absent)
            if not name.startswith("request.")
        )

    def owner(self, feature: str) -> Reason | None:
        """The reason that states the feature; None if none does truly."""
        own = self.own(feature)
        if self.speaks(feature):
            return own
        missing = math.isnan(self.value[feature])
        if missing:
            for reason in self.reasons:
                if feature in self.of(reason.unavailable) and self.is_true(reason, "unavailable"):
                    return reason
        if not self.none_of_it(feature):
            for reason in self.reasons:
                if feature in self.of(reason.absent) and self.is_true(reason, "absent"):
                    return reason
        if missing and self.state(feature) == "unavailable":
            return None
        return own if any(self.speaks(name) for name in self.of(own.features)) else None


def naive_codes(
    applicant: Applicant, contributions: Sequence[float], least: float, least_share: float
) -> list[str]:
    """Codes of the reasons with at least the floor and the share of all adverse effects."""
    above: dict[str, float] = {}
    scored: set[str] = set()
    unstated = 0.0
    for feature, contribution in zip(applicant.features, contributions, strict=True):
        owner = applicant.owner(feature)
        if owner is not None:
            above.setdefault(owner.code, 0.0)
        difference = contribution - applicant.reference[feature]
        if difference > 0 and not applicant.speaks(feature) and applicant.none_of_it(feature):
            continue
        if owner is None:
            unstated += difference
            continue
        above[owner.code] += difference
        if contribution:
            scored.add(owner.code)
    order = [reason.code for reason in applicant.reasons]
    ranked = sorted(above, key=lambda code: (-above[code], order.index(code)))
    raised = [code for code in ranked if code in scored and above[code] > 0]
    total = sum(above[code] for code in raised) + max(0.0, unstated)
    material = [code for code in raised if above[code] >= max(least, least_share * total)]
    nearest = [code for code in ranked if code in scored] or ranked
    return material[:4] or raised[:1] or nearest[:1]
