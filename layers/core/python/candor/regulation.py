"""Regulation as configuration: the notice that a decision owes, its deadline, and the roles responsible for the model.

Regulation B, 12 CFR 1002.9(a)(1): 30 days after a completed application, 90 after a counter-offer that was not
accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from candor.clock import DAY
from candor.contracts import Offer
from candor.errors import DefinitionError

Kind = Literal["declined", "counter_offer"]
Tier = Literal["high", "medium", "low"]

MAX_KEY_FACTORS = 4
"""Key factors of a score, inquiries apart: 15 U.S.C. 1681g(f)(1)(C) and (f)(9)."""

INCIDENTAL_INSTALLMENTS = 4
"""Regulation B, 12 CFR 1002.3(c): credit without a finance charge in at most four payments is incidental."""


class Party(msgspec.Struct, frozen=True):
    """A creditor, or its supervising agency, as named in a notice."""

    name: str
    address: str


class CreditScore(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer reporting agency's score among the features of its view, and what a notice discloses of it.

    Features are named without the view: `value="score.lifetime"`. `age`: a `TimeSinceLast`, whose moment is the date of
    the score. `factors`: at most four `LastCategory` features of the key factors that lowered it; `texts` are by
    category, which is its own text otherwise. `inquiries`: above 0 if inquiries were a key factor too, which is a fifth.
    Source: 15 U.S.C. 1681m(a)(2), 1681g(f)(1). Raises `DefinitionError`.
    """

    value: str
    lowest: int
    highest: int
    age: str | None = None
    factors: tuple[str, ...] = ()
    texts: Mapping[str, str] = {}
    inquiries: str | None = None

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise DefinitionError("a credit score has a lowest value below its highest")
        if len(self.factors) > MAX_KEY_FACTORS:
            raise DefinitionError(
                f"a notice discloses at most {MAX_KEY_FACTORS} key factors of a credit score"
            )

    @property
    def features(self) -> tuple[str, ...]:
        """All named features."""
        return tuple(
            name for name in (self.value, self.age, *self.factors, self.inquiries) if name is not None
        )


class Agency(msgspec.Struct, frozen=True):
    """The consumer reporting agency that a view's data are from, as a notice of adverse action names it.

    `telephone` is its toll-free number if it compiles files nationwide (15 U.S.C. 1681m(a)(3)). Raises
    `DefinitionError` for an empty member.
    """

    name: str
    address: str
    telephone: str
    score: CreditScore | None = None

    def __post_init__(self) -> None:
        if not (self.name.strip() and self.address.strip() and self.telephone.strip()):
            raise DefinitionError("an agency has a name, an address and a telephone number")


class DisclosedScore(msgspec.Struct, frozen=True, kw_only=True):
    """A credit score as a notice discloses it; `made_on` is a date (YYYY-MM-DD), None if it is not recorded."""

    value: int | float
    lowest: int
    highest: int
    made_on: str | None = None
    factors: tuple[str, ...] = ()
    inquiries: bool = False


class ConsumerReport(msgspec.Struct, frozen=True):
    """A consumer report that a decision used: its agency, and the score if that was used."""

    agency: str
    address: str
    telephone: str
    score: DisclosedScore | None = None


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


class AdverseAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """An owed notice: due at `due_at`, with a reminder at `remind_at` (ms UTC).

    `consumer_reports` are those that the decision used. Where there are none, the record has the bytes of before.
    """

    kind: Kind
    due_at: int
    remind_at: int
    consumer_reports: tuple[ConsumerReport, ...] = ()


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
