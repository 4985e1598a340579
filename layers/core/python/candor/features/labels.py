"""When a checkout turned out bad: the declarations that the training set's labels come from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from candor.errors import DefinitionError
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


class Outcome(msgspec.Struct, frozen=True):
    """Another end of a loan: bad if an instalment was still unpaid `past_due` after it fell due.

    `within` is how long after its origination a loan is watched; None: its first instalment alone is, a first-payment default.
    Good and bad mature together: at the end of `within`, or `past_due` after the first instalment's due date.
    """

    name: str
    past_due: str
    within: str | None = None

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
        if self.outcomes and self.instalments is None:
            raise DefinitionError(
                "outcomes are of instalments: say how they are told, Label(instalments=Instalments(…))"
            )
        names = [FINAL_DUE, *(outcome.name for outcome in self.outcomes)]
        if len(set(names)) < len(names):
            raise DefinitionError(f'two outcomes have one name, or one is named "{FINAL_DUE}"')

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
