"""The catalogue of reasons: what a lender may state, and which features belong to which statement.

`candor.principal_reasons` chooses among them for a decline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from candor.errors import DefinitionError

MAX_REASONS = 4


class Reason(msgspec.Struct, frozen=True):
    """One entry of the catalogue: `text` names a factor, without thresholds. The other members are name globs.

    `features` belong to the reason; each feature belongs to exactly one. Instead of their own reason, it is stated of
    features that say nothing: `absent` ones of views without an event, if no view feature among them has one;
    `unavailable` ones of views that could not be read. A reason without globs belongs to a hard rule.
    """

    code: str
    text: str
    factor: str
    features: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()

    @property
    def of_model(self) -> bool:
        """True for a reason of the model, false for one of a hard rule."""
        return bool(self.features or self.absent or self.unavailable)

    def to_json(self) -> dict[str, Any]:
        """JSON form. Globs other than `features` are left out where there are none, as in files of before."""
        members: dict[str, Any] = {"code": self.code, "text": self.text, "factor": self.factor}
        members["features"] = list(self.features)
        if self.absent:
            members["absent"] = list(self.absent)
        if self.unavailable:
            members["unavailable"] = list(self.unavailable)
        return members


class ReasonBasis(msgspec.Struct, frozen=True):
    """Basis of the choice of reasons, one value per feature in the bundle's order.

    `reference`: mean contribution (raw log odds) of applicants near the cut-off. `no_events`: value for an entity
    without events; None if that is missing, and for on-demand features. `adverse`: whether the feature is a quantity
    of something adverse (`Monotone.adverse`). `inputs`: indices of the view features that an on-demand feature reads.
    Raises ValueError for tuples of different lengths.
    """

    reference: tuple[float, ...]
    no_events: tuple[float | None, ...]
    adverse: tuple[bool, ...]
    inputs: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len({len(getattr(self, name)) for name in self.__struct_fields__}) != 1:
            raise ValueError("a basis of reasons has one value per feature")

    @classmethod
    def empty(cls, features: int) -> ReasonBasis:
        """Basis with a reference of 0, of features that are not of views."""
        return cls((0.0,) * features, (None,) * features, (False,) * features, ((),) * features)

    def to_json(self) -> dict[str, Any]:
        """JSON form, by member."""
        return {name: list(getattr(self, name)) for name in self.__struct_fields__}


def matches(glob: str, name: str) -> bool:
    """Same as `fnmatch.fnmatchcase`, without compiling a regular expression per glob: that is slow at a cold start."""
    if "?" in glob or "[" in glob:
        from fnmatch import fnmatchcase

        return fnmatchcase(name, glob)
    first, *others = glob.split("*")
    if not others:
        return name == glob
    *inner, last = others
    if not name.startswith(first):
        return False
    place = len(first)
    for part in inner:
        if (position := name.find(part, place)) < 0:
            return False
        place = position + len(part)
    return name.endswith(last) and len(name) - len(last) >= place


class Monotone(msgspec.Struct, frozen=True, kw_only=True):
    """Monotone constraints of a model: risk never falls with a `rising` feature, and never rises with a `falling` one.

    `adverse` features rise as well, and count something adverse: at 0 or below there is none of it, so that it cannot
    be a reason. All are globs of feature names. They constrain training and reasons: no feature value changes with them.
    """

    adverse: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()
    falling: tuple[str, ...] = ()

    def of(self, features: Sequence[str]) -> tuple[int, ...]:
        """1, −1 or 0 per feature. `DefinitionError` for a glob without a match and for a feature of both directions."""
        for glob in (*self.adverse, *self.rising, *self.falling):
            if not any(matches(glob, name) for name in features):
                raise DefinitionError(f'monotone: no feature is named "{glob}"')
        return tuple(self._direction(name) for name in features)

    def counts_adverse(self, features: Sequence[str]) -> tuple[bool, ...]:
        """Whether each feature is `adverse`."""
        return tuple(any(matches(glob, name) for glob in self.adverse) for name in features)

    def _direction(self, feature: str) -> int:
        rises, falls = (
            any(matches(glob, feature) for glob in globs)
            for globs in ((*self.adverse, *self.rising), self.falling)
        )
        if rises and falls:
            raise DefinitionError(f'monotone: "{feature}" cannot both rise and fall')
        return int(rises) - int(falls)


class Catalogue:
    """The reasons of a bundle; every feature belongs to exactly one factor.

    Raises `DefinitionError` if a feature has no factor or two: no scored factor may be hidden.
    """

    def __init__(self, reasons: Iterable[Reason], features: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        if len({reason.code for reason in self.reasons}) != len(self.reasons):
            raise DefinitionError("two reasons share a code")
        factors = [reason.factor for reason in self.reasons if reason.of_model]
        if len(set(factors)) != len(factors):
            raise DefinitionError(
                "two reasons share a factor: both would be given for the same contributions"
            )
        self.features = tuple(features)
        self.factor_of = tuple(self._factor(name) for name in features)

    def _factor(self, feature: str) -> int:
        matching = [
            place
            for place, reason in enumerate(self.reasons)
            if any(matches(glob, feature) for glob in reason.features)
        ]
        if len(matching) != 1:
            raise DefinitionError(
                f'feature "{feature}" belongs to {len(matching)} reasons; it needs exactly one'
            )
        return matching[0]

    def by_factor(self, contributions: Sequence[float]) -> dict[str, float]:
        """Contributions (log odds, one per feature) summed by factor."""
        sums = {reason.factor: 0.0 for reason in self.reasons if reason.features}
        for place, contribution in zip(self.factor_of, contributions, strict=True):
            sums[self.reasons[place].factor] += contribution
        return sums

    def model_reasons(self, contributions: Sequence[float], reference: Mapping[str, float]) -> list[str]:
        """Codes of the factors that raised the risk most above the reference; ties in catalogue order.

        The method of bundles without a `ReasonBasis`: their decisions replay to the same reasons. Only factors that were
        scored: one of their features contributed (comment 9(b)(2)-2). Always at least one: the scored factor nearest to
        raising the risk, if none does.
        """
        factors = self.by_factor(contributions)
        scored = self._scored(contributions)
        ranked = sorted(
            (reason for reason in self.reasons if reason.factor in scored),
            key=lambda reason: -(factors[reason.factor] - reference.get(reason.factor, 0.0)),
        )
        raised = [r.code for r in ranked if factors[r.factor] > reference.get(r.factor, 0.0)]
        return raised[:MAX_REASONS] or [ranked[0].code]

    def _scored(self, contributions: Sequence[float]) -> set[str]:
        """Factors with a nonzero contribution; all factors if every contribution is zero."""
        places = {
            place
            for place, contribution in zip(self.factor_of, contributions, strict=True)
            if contribution != 0.0
        }
        return {self.reasons[place].factor for place in places or self.factor_of}


BANNED = (
    "internal standard",
    "internal polic",
    "qualifying score",
    "credit score",
    "scoring system",
    "minimum score",
    "points on",
    "risk score",
    "our model",
    "our criteria",
    "lending criteria",
    "credit polic",
    "insufficient score",
)
"""Phrases that are not specific (Regulation B, 1002.9(b)(2)), in lower case."""


def unspecific_reasons(reasons: Iterable[Reason]) -> list[str]:
    """Faults of the texts, one line each: empty, insufficient by law, a threshold, or a repeated text."""
    return [f"reason {reason.code}: {fault}" for reason, fault in _faults(tuple(reasons))]


def _faults(reasons: tuple[Reason, ...]) -> Iterator[tuple[Reason, str]]:
    seen: set[str] = set()
    for reason in reasons:
        text = " ".join(reason.text.lower().split())
        if not text:
            yield reason, "it has no text"
        for phrase in BANNED:
            if phrase in text:
                yield reason, f'"{phrase}" is not specific enough; name the factor'
        if any(character.isdigit() for character in text):
            yield reason, "a number reveals a threshold; name the factor alone"
        if text in seen:
            yield reason, "another reason has the same text"
        seen.add(text)
