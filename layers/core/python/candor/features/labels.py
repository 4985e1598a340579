"""When a checkout turned out bad: the declarations that the training set's labels come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from candor.errors import DefinitionError
from candor.features.event_types import EventType
from candor.features.windows import duration

FINAL_DUE = "final_due"
"""Name of the label that every `Label` is by itself."""


class Instalments(msgspec.Struct, frozen=True):
    """How a loan's instalments are told: events that name the loan (`loan_id`) and the instalment (the field `number`).

    `due` occurs when it falls due; `paid` settles it, `reversed` takes the latest payment of it back.
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
    """Another end of a loan: bad if an instalment was still unpaid `past_due` after it fell due.

    `within` is how long after its origination a loan is watched; None: its first instalment alone is, a first-payment default.
    Good and bad mature together: at the end of `within`, or `past_due` after the first instalment's due date.
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
    """When a checkout turned out bad: its loan was not closed by the due date plus `grace`.

    `origin` links loan and checkout (`checkout_id`, `loan_id`, `due_field` in ms); `closed` ends the loan.
    Good and bad labels mature together, at due date plus grace. `outcomes` are other labels, of `instalments`, by their names.
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
        """Raise `DefinitionError` unless it is of declared events and fields: no loan would be labelled otherwise."""
        _check_integer(event_types, self.origin, self.due_field)
        _declared(event_types, self.closed)
        if self.instalments is not None:
            self.instalments.check(event_types)

    @property
    def grace_ms(self) -> int:
        return duration(self.grace)

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of this name; None for the label's own, `final_due`. Raises `DefinitionError`, which names what there is."""
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
