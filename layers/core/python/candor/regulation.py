"""Regulation as configuration: the notice that a decision owes, its deadline, and the roles responsible for the model.

Regulation B, 12 CFR 1002.9(a)(1): 30 days after a completed application, 90 after a counter-offer that was not
accepted.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from candor.clock import DAY
from candor.contracts import Offer
from candor.errors import DefinitionError

Kind = Literal["declined", "counter_offer"]
Tier = Literal["high", "medium", "low"]

INCIDENTAL_INSTALLMENTS = 4
"""Regulation B, 12 CFR 1002.3(c): credit without a finance charge in at most four payments is incidental."""


class Party(msgspec.Struct, frozen=True):
    """A creditor, or its supervising agency, as named in a notice."""

    name: str
    address: str


class Profile(msgspec.Struct, frozen=True):
    """Regulatory profile of a lender; every decision record names it.

    `exempts_incidental`: incidental credit owes no notice. By default it is sent all the same.
    """

    name: str
    creditor: Party
    agency: Party
    notice_days: int = 30
    counter_offer_days: int = 90
    reminder_days: int = 20
    exempts_incidental: bool = False


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A lender's declarations for the model inventory; the rest of a card is measured.

    Owner, developer and validator are offices, not people. Raises `DefinitionError` for an empty member, and if
    developer and validator are equal: validation is independent. Source: SR 26-2 (17 April 2026), inventory and
    validation.
    """

    name: str
    owner: str
    developer: str
    validator: str
    tier: Tier
    purpose: str
    exclusions: tuple[str, ...]
    limits: tuple[str, ...]

    def __post_init__(self) -> None:
        empty = [name for name in self.__struct_fields__ if not getattr(self, name)]
        if empty:
            raise DefinitionError(f"the model card says nothing of: {', '.join(empty)}")
        if self.validator == self.developer:
            raise DefinitionError("the model card's validator must not be its developer")


class AdverseAction(msgspec.Struct, frozen=True):
    """An owed notice: due at `due_at`, with a reminder at `remind_at` (ms UTC)."""

    kind: Kind
    due_at: int
    remind_at: int


def adverse_action(
    profile: Profile, offer: Offer, outcome: str, decided_at: int, *, counter_offer: bool
) -> AdverseAction | None:
    """The notice that a decision owes; None if the request was granted in full, or awaits review."""
    if profile.exempts_incidental and is_incidental(offer):
        return None
    remind_at = decided_at + profile.reminder_days * DAY
    if outcome == "declined":
        return AdverseAction("declined", decided_at + profile.notice_days * DAY, remind_at)
    if outcome == "approved" and counter_offer:
        return AdverseAction("counter_offer", decided_at + profile.counter_offer_days * DAY, remind_at)
    return None


def is_incidental(offer: Offer) -> bool:
    """True if a request is for incidental credit."""
    return offer.finance_charge == 0 and offer.installments <= INCIDENTAL_INSTALLMENTS
