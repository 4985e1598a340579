"""Principal reasons of a decline by the model.

Contributions are summed per reason, relative to applicants near the cut-off (Regulation B, comment 9(b)(2)-5 (a)); at
most four reasons are named (comment 9(b)(2)-1). A contribution counts for a statement that is true of the applicant:
the feature's own reason where the feature says something, else that of absent or unavailable data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


class Attribution(NamedTuple):
    """Effects of all reasons that are true of the applicant, in catalogue order.

    `unstated` is the effect that no true reason states, and `floor` the smallest that is named, both in raw log odds.
    """

    effects: list[Effect]
    unstated: float
    floor: float

    def raised(self) -> list[Effect]:
        """Effects that raised the risk, the strongest first; ties in catalogue order."""
        return sorted((e for e in self.effects if e.scored and e.above > 0.0), key=lambda e: -e.above)

    @property
    def total(self) -> float:
        """Sum of all adverse effects, stated or not (raw log odds)."""
        return sum(effect.above for effect in self.raised()) + max(0.0, self.unstated)

    @property
    def unstated_share(self) -> float:
        """Share of `unstated` in `total`; 0 if nothing raised the risk."""
        return max(0.0, self.unstated) / self.total if self.total else 0.0

    def codes(self) -> list[str]:
        """Codes of the principal reasons, one to four: the material ones, by `MIN_EFFECT` and `MIN_SHARE`.

        If none is material, the strongest; if none raised the risk, the one nearest to that.
        """
        raised = self.raised()
        least = max(self.floor, MIN_SHARE * self.total)
        material = [effect for effect in raised if effect.above >= least]
        chosen = material or raised or self._nearest()
        return [effect.reason.code for effect in chosen[: MAX_REASONS if material else 1]]

    def _nearest(self) -> list[Effect]:
        scored = [effect for effect in self.effects if effect.scored]
        return sorted(scored or self.effects, key=lambda effect: -effect.above)


class PrincipalReasons:
    """The choice of reasons for the applicants of one bundle; `slope` is that of its calibration.

    Raises `DefinitionError` for a catalogue that `require_statements` refuses.
    """

    def __init__(self, catalogue: Catalogue, basis: ReasonBasis, slope: float) -> None:
        require_statements(catalogue, basis)
        features = catalogue.features
        self.reasons = catalogue.reasons
        self._owner = catalogue.factor_of
        self._basis = basis
        self._floor = MIN_EFFECT / slope
        self._view = tuple(map(_view, features))
        self._absent = _globbed((r.absent for r in self.reasons), features)
        self._unavailable = _globbed((r.unavailable for r in self.reasons), features)
        self._inputs = tuple((index, read) for index, read in enumerate(basis.inputs) if read)
        self._features = tuple(
            zip(self._owner, basis.no_events, basis.adverse, self._view, range(len(features)), strict=True)
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
        for owner, part, reference, index in zip(
            owners, contributions, self._basis.reference, range(len(owners)), strict=True
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
        """Codes of the principal reasons of a decline: one to four, each true of the applicant."""
        return self.attribution(contributions, values, states).codes()

    def _evidence(self, values: Sequence[float]) -> set[int]:
        """Indices of the features that say something of their own reason: not missing, and not as without events.

        A quantity of something adverse says something above 0. An on-demand feature that reads views does so if one of
        the features that it reads does.
        """
        evidence = {
            index
            for value, (_, no_events, adverse, _, index) in zip(values, self._features, strict=True)
            if (value > 0.0 if adverse else value == value and value != no_events)  # noqa: PLR0124 - NaN is missing
        }
        evidence -= {index for index, read in self._inputs if evidence.isdisjoint(read)}
        return evidence

    def _owners(self, values: Sequence[float], states: Mapping[str, str], evidence: set[int]) -> list[int]:
        """Positions of the reasons that state each feature; `NOBODY` if none does truly."""
        known = {self._owner[index] for index in evidence}
        owners = [
            owner if owner in known and not (value != value and states.get(view) == "unavailable") else NOBODY  # noqa: PLR0124
            for value, (owner, _, _, view, _) in zip(values, self._features, strict=True)
        ]
        for place, index in self._statements(values, states):
            if index not in evidence and not self._none_of_it(index, values):
                owners[index] = place
        return owners

    def _statements(self, values: Sequence[float], states: Mapping[str, str]) -> Iterator[tuple[int, int]]:
        """True statements as (position of the reason, feature), the one that holds last.

        That of unavailable data precedes that of absent data, and an earlier reason a later one.
        """
        for place in reversed(range(len(self.reasons))):
            if self._is_absent(self._absent[place], values, states):
                yield from ((place, index) for index in self._absent[place])
        if "unavailable" not in states.values():
            return
        for place in reversed(range(len(self.reasons))):
            indices = self._unavailable[place]
            if any(states.get(self._view[index]) == "unavailable" for index in indices):
                yield from ((place, index) for index in indices if values[index] != values[index])

    def _is_absent(self, indices: Iterable[int], values: Sequence[float], states: Mapping[str, str]) -> bool:
        """Whether no view feature among `indices` has an event, and all of them were read."""
        return all(
            _equal(values[index], self._basis.no_events[index])
            and states.get(self._view[index]) not in _UNREADABLE
            for index in indices
            if self._view[index] != REQUEST
        )

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


def _globbed(globs_of: Iterable[Sequence[str]], features: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Indices of the matching features, for each of several lists of globs."""
    return tuple(
        tuple(index for index, name in enumerate(features) if any(matches(glob, name) for glob in globs))
        for globs in globs_of
    )


def _equal(value: float, no_events: float | None) -> bool:
    return value != value if no_events is None else value == no_events  # noqa: PLR0124 - NaN is missing
