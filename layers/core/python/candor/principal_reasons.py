"""Principal reasons of a decline by the model.

Contributions are summed per reason, relative to applicants near the cut-off (Regulation B, comment 9(b)(2)-5 (a)); at
most four reasons are named (comment 9(b)(2)-1). A contribution counts for a statement that is true of the applicant:
the feature's own reason where the feature says something, else that of absent or unavailable data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from candor.errors import DefinitionError
from candor.features.definitions import Definitions
from candor.features.no_events import inputs, without_events
from candor.features.on_demand import REQUEST
from candor.reasons import MAX_REASONS, Catalogue, Monotone, Reason, ReasonBasis, matches

MIN_EFFECT: Final = 0.05
"""Smallest effect (calibrated log odds) of a reason that is named: the odds of default grow by 5 %."""

MIN_SHARE: Final = 0.10
"""Smallest share in the sum of all adverse effects of a reason that is named.

Regulation B asks for the *principal* reasons (12 CFR 1002.9(b)(2)) and sets no figure; the share and the floor are
Candor's own.
"""

_UNREADABLE: Final = ("unavailable", "stale")
"""States of views of which nobody may say that they hold no event."""

NOBODY: Final = -1
"""Owner of contributions for which the catalogue has no true statement."""


class Effect(NamedTuple):
    """Effect of a reason on one applicant, in raw log odds: its features' contributions and their reference.

    `scored`: one of its features contributed.
    """

    reason: Reason
    part: float
    reference: float
    scored: bool

    @property
    def above(self) -> float:
        """Effect relative to applicants near the cut-off; positive if it raised the risk."""
        return self.part - self.reference


_above = attrgetter("above")


class Attribution(NamedTuple):
    """Effects of all reasons that are true of the applicant, in catalogue order.

    `unstated` is the effect that no true reason states, and `floor` the smallest that is named, both in raw log odds.
    """

    effects: list[Effect]
    unstated: float
    floor: float

    def raised(self) -> list[Effect]:
        """Effects that raised the risk, the strongest first; ties in catalogue order."""
        raised = [effect for effect in self.effects if effect.scored and effect.part > effect.reference]
        return sorted(raised, key=_above, reverse=True)

    def total(self, raised: Iterable[Effect]) -> float:
        """Sum of all adverse effects, stated or not (raw log odds)."""
        return sum(effect.above for effect in raised) + max(0.0, self.unstated)

    @property
    def unstated_share(self) -> float:
        """Share of `unstated` in the sum of all adverse effects; 0 if nothing raised the risk."""
        total = self.total(self.raised())
        return max(0.0, self.unstated) / total if total else 0.0

    def codes(self) -> list[str]:
        """Codes of the principal reasons, one to four: the material ones, by `MIN_EFFECT` and `MIN_SHARE`.

        If none is material, the strongest; if none raised the risk, the one nearest to that.
        """
        raised = self.raised()
        least = max(self.floor, MIN_SHARE * self.total(raised))
        material = [effect for effect in raised if effect.above >= least]
        chosen = material[:MAX_REASONS] or raised[:1] or self._nearest()[:1]
        return [effect.reason.code for effect in chosen]

    def _nearest(self) -> list[Effect]:
        scored = [effect for effect in self.effects if effect.scored]
        return sorted(scored or self.effects, key=_above, reverse=True)


class PrincipalReasons:
    """The choice of reasons for the applicants of one bundle; `slope` is that of its calibration.

    `require_statements` is called when a bundle is built, not here: a cold start does not pay it.
    """

    def __init__(self, catalogue: Catalogue, basis: ReasonBasis, slope: float) -> None:
        features = catalogue.features
        self.reasons = catalogue.reasons
        self._catalogue = catalogue
        self._reference = catalogue.by_factor(basis.reference)
        self._owner = catalogue.factor_of
        self._basis = basis
        self._floor = MIN_EFFECT / slope
        self._view = tuple(map(_view, features))
        self._inputs = tuple((index, read) for index, read in enumerate(basis.inputs) if read)
        absent = _globbed((r.absent for r in self.reasons), features)
        unavailable = _globbed((r.unavailable for r in self.reasons), features)
        self._absent = _reasons_by_feature(absent, len(features))
        self._unavailable = _reasons_by_feature(unavailable, len(features))
        self._views_of = tuple(frozenset(self._view[index] for index in indices) for indices in unavailable)
        self._empty = tuple(
            (place, tuple(index for index in indices if self._view[index] != REQUEST))
            for place, indices in enumerate(absent)
            if indices
        )

    def attribution(
        self, contributions: Sequence[float], values: Sequence[float], states: Mapping[str, str]
    ) -> Attribution:
        """Attribute contributions (raw log odds) to the statements that are true of these values and view states.

        A view without a state is readable.
        """
        evidence = self._evidence(values)
        owners = self._owners(values, states, evidence)
        parts, references = [0.0] * len(self.reasons), [0.0] * len(self.reasons)
        scored, unstated = [False] * len(self.reasons), 0.0
        for index, (owner, part, reference) in enumerate(
            zip(owners, contributions, self._basis.reference, strict=True)
        ):
            if part > reference and index not in evidence and self._none_of_it(index, values):
                continue
            if owner == NOBODY:
                unstated += part - reference
                continue
            parts[owner] += part
            references[owner] += reference
            if part != 0.0:
                scored[owner] = True
        effects = [
            Effect(self.reasons[place], parts[place], references[place], scored[place])
            for place in sorted(set(owners) - {NOBODY})
        ]
        return Attribution(effects, unstated, self._floor)

    def codes(
        self, contributions: Sequence[float], values: Sequence[float], states: Mapping[str, str]
    ) -> list[str]:
        """Codes of the principal reasons of a decline: one to four, each true of the applicant.

        Where the catalogue has nothing true to say, the factor that raised the risk most is named: a stale view without
        events, and no feature of the request, for example.
        """
        attribution = self.attribution(contributions, values, states)
        if not attribution.effects:
            return self._catalogue.model_reasons(contributions, self._reference)[:1]
        return attribution.codes()

    def _evidence(self, values: Sequence[float]) -> set[int]:
        """Indices of the features that say something of their own reason: not missing, and not as without events.

        A quantity of something adverse says something above 0. An on-demand feature that reads views does so if one of
        the features that it reads does.
        """
        basis = self._basis
        evidence = {
            index
            for index, (value, no_events, adverse) in enumerate(
                zip(values, basis.no_events, basis.adverse, strict=True)
            )
            if (value > 0.0 if adverse else value == value and value != no_events)  # noqa: PLR0124 - NaN is missing
        }
        evidence -= {index for index, read in self._inputs if evidence.isdisjoint(read)}
        return evidence

    def _owners(self, values: Sequence[float], states: Mapping[str, str], evidence: set[int]) -> list[int]:
        """Positions of the reasons that state each feature; `NOBODY` if none does truly."""
        owner, known = self._owner, {self._owner[index] for index in evidence}
        unreadable = frozenset(view for view, state in states.items() if state in _UNREADABLE)
        unavailable = frozenset(view for view in unreadable if states[view] == "unavailable")
        absent = self._absences(values, unreadable)
        owners = []
        for index, own in enumerate(owner):
            if index in evidence:
                owners.append(own)
                continue
            missing = unavailable and math.isnan(values[index])
            place = self._statement(index, unavailable) if missing else NOBODY
            if place == NOBODY and not self._none_of_it(index, values):
                place = next((place for place in self._absent[index] if place in absent), NOBODY)
            if place == NOBODY and own in known and not (missing and self._view[index] in unavailable):
                place = own
            owners.append(place)
        return owners

    def _statement(self, index: int, unavailable: frozenset[str]) -> int:
        """Position of the first reason that says of a feature that a view could not be read; else `NOBODY`."""
        places = self._unavailable[index]
        return next((place for place in places if not unavailable.isdisjoint(self._views_of[place])), NOBODY)

    def _absences(self, values: Sequence[float], unreadable: frozenset[str]) -> set[int]:
        """Positions of the reasons for absence that are true: all their views were read, and hold no event."""
        no_events = self._basis.no_events
        return {
            place
            for place, indices in self._empty
            if all(_equal(values[index], no_events[index]) for index in indices)
            and not any(self._view[index] in unreadable for index in indices)
        }

    def _none_of_it(self, index: int, values: Sequence[float]) -> bool:
        """Whether the feature counts something adverse of which there is none: that cannot raise the risk."""
        return self._basis.adverse[index] and values[index] <= 0.0


def require_statements(catalogue: Catalogue, basis: ReasonBasis) -> None:
    """Raise `DefinitionError` if a feature could raise the risk and no reason could be given that is true.

    That of a view needs a reason for its being unavailable. It needs one for its being absent too, unless 0 of it is
    none of something adverse; so does an on-demand feature that reads views and is not adverse.
    """
    for index, name in enumerate(catalogue.features):
        of_view = _view(name) != REQUEST
        if of_view and not _named(name, (reason.unavailable for reason in catalogue.reasons)):
            raise DefinitionError(
                f'no reason says that "{name}" could not be read: name it in Reason(unavailable=…)'
            )
        harmless = basis.adverse[index] and (basis.no_events[index] is not None or not of_view)
        if not (of_view or basis.inputs[index]) or harmless:
            continue
        if not _named(name, (reason.absent for reason in catalogue.reasons)):
            raise DefinitionError(
                f'no reason says what holds where "{name}" has no event: name it in Reason(absent=…), or in '
                "Monotone(adverse=…) if none of it cannot raise the risk"
            )


def _named(feature: str, globs_of: Iterable[Sequence[str]]) -> bool:
    return any(matches(glob, feature) for globs in globs_of for glob in globs)


def _view(feature: str) -> str:
    """Name of a feature's view; `request` for a feature of none."""
    return feature.partition(".")[0] if "." in feature else REQUEST


def reason_basis(definitions: Definitions, monotone: Monotone, reference: Sequence[float]) -> ReasonBasis:
    """Basis of the reasons of a model of these definitions; `reference` has one value per feature, in raw log odds."""
    return ReasonBasis(
        tuple(reference),
        without_events(definitions),
        monotone.counts_adverse(definitions.features),
        inputs(definitions),
    )


def _reasons_by_feature(indices_of: Sequence[Sequence[int]], features: int) -> tuple[tuple[int, ...], ...]:
    """Positions of the reasons that name each feature, in catalogue order."""
    return tuple(
        tuple(place for place, indices in enumerate(indices_of) if index in indices)
        for index in range(features)
    )


def _globbed(globs_of: Iterable[Sequence[str]], features: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Indices of the matching features, for each of several lists of globs."""
    return tuple(
        tuple(index for index, name in enumerate(features) if any(matches(glob, name) for glob in globs))
        for globs in globs_of
    )


def _equal(value: float, no_events: float | None) -> bool:
    return value != value if no_events is None else value == no_events  # noqa: PLR0124 - NaN is missing
