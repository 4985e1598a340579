"""Labels of the training set: declarations of when a loan is bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from candor.errors import DefinitionError
from candor.features.event_types import EventType
from candor.features.windows import duration

FINAL_DUE = "final_due"
"""Name of a `Label`'s own definition of bad."""


class Instalments(msgspec.Struct, frozen=True):
    """Event types of instalments; they carry the loan (`loan_id`) and the instalment's number (the field `number`).

    `due` occurs when it falls due; `paid` settles it, `reversed` reverses its latest payment.
    """

    due: str
    paid: str
    reversed: str | None = None
    number: str = "installment"

    def check(self, event_types: Mapping[str, EventType]) -> None:
        """Raise `DefinitionError` unless its events are declared, each with the number of the instalment."""
        for name in filter(None, (self.due, self.paid, self.reversed)):
            _check_integer(event_types, name, self.number)


class Outcome(msgspec.Struct, frozen=True):
    """Alternative label: bad if an instalment was still unpaid `past_due` after it fell due.

    `within` is the performance window after origination; None: the first instalment alone counts (first-payment
    default). Good and bad mature together: at the end of `within`, or `past_due` after the first instalment's due
    date.
    """

    name: str
    past_due: str
    within: str | None = None

    def __post_init__(self) -> None:
        past_due, within = self.past_due_ms, self.within_ms
        if within is not None and within < past_due:
            raise DefinitionError(
                f'outcome "{self.name}" is never bad: within="{self.within}" ends before past_due="{self.past_due}"'
            )

    @property
    def past_due_ms(self) -> int:
        return duration(self.past_due)

    @property
    def within_ms(self) -> int | None:
        return None if self.within is None else duration(self.within)


class Label(msgspec.Struct, frozen=True):
    """Definition of a bad checkout: its loan was not closed by the due date plus `grace`.

    `origin` links loan and checkout (`checkout_id`, `loan_id`, `due_field` in ms); `closed` ends the loan. Good and
    bad labels mature together, at due date plus grace. `outcomes` are alternative labels from `instalments`, selected
    by name.
    """

    origin: str
    closed: str
    due_field: str
    grace: str
    instalments: Instalments | None = None
    outcomes: Sequence[Outcome] = ()

    def __post_init__(self) -> None:
        duration(self.grace)
        if self.outcomes and self.instalments is None:
            raise DefinitionError(
                "outcomes are of instalments: say how they are told, Label(instalments=Instalments(…))"
            )
        names = [FINAL_DUE, *(outcome.name for outcome in self.outcomes)]
        if len(set(names)) < len(names):
            raise DefinitionError(f'two outcomes have one name, or one is named "{FINAL_DUE}"')

    def check(self, event_types: Mapping[str, EventType]) -> None:
        """Raise `DefinitionError` unless its events and fields are declared: otherwise no loan would be labelled."""
        _check_integer(event_types, self.origin, self.due_field)
        _declared(event_types, self.closed)
        if self.instalments is not None:
            self.instalments.check(event_types)

    @property
    def grace_ms(self) -> int:
        return duration(self.grace)

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of this name; None for the label's own, `final_due`. `DefinitionError` for an unknown name."""
        for outcome in self.outcomes:
            if outcome.name == name:
                return outcome
        if name != FINAL_DUE:
            known = ", ".join([FINAL_DUE, *(outcome.name for outcome in self.outcomes)])
            raise DefinitionError(f'no label is named "{name}"; there are {known}')
        return None


def _declared(event_types: Mapping[str, EventType], name: str) -> EventType:
    if name not in event_types:
        raise DefinitionError(
            f'the label asks for event type "{name}", which is not declared; there are {", ".join(sorted(event_types))}'
        )
    return event_types[name]


def _check_integer(event_types: Mapping[str, EventType], name: str, field: str) -> None:
    kind = _declared(event_types, name).fields.get(field)
    if kind is None or kind.kind != "integer":
        raise DefinitionError(f'the label asks for it, but event type "{name}" declares no integer "{field}"')
