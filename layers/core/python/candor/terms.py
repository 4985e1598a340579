"""Credit terms (amount, installments, finance charge), and a policy's limits on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec

from candor.contracts import MAX_AMOUNT, Checkout

BASIS = 10_000
"""Basis points in 1."""

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_AMOUNT)]
Installments = Annotated[int, msgspec.Meta(ge=1, le=60)]
BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=BASIS)]


class TermLimits(msgspec.Struct, frozen=True):
    """Limits on the granted terms; None: as requested.

    `limit` is the largest amount, in minor units; `installments` the largest number of payments; `charge_bps` the
    finance charge in basis points of the amount.
    """

    limit: Limit | None = None
    installments: Installments | None = None
    charge_bps: BasisPoints | None = None

    def strictest(self, second: TermLimits) -> TermLimits:
        """Both limits combined: the lower limit, the fewer payments, the higher charge."""
        return TermLimits(
            _of(min, self.limit, second.limit),
            _of(min, self.installments, second.installments),
            _of(max, self.charge_bps, second.charge_bps),
        )


class Terms(msgspec.Struct, frozen=True):
    """Granted terms: `amount` and `finance_charge` in minor units, paid in `installments` payments."""

    amount: int
    installments: int
    finance_charge: int


def granted(limits: TermLimits, checkout: Checkout) -> Terms:
    """Apply limits to a request. Integers only: a charge by basis points is rounded half up, a prorated one down."""
    offer = checkout.offer
    amount = checkout.total if limits.limit is None else min(checkout.total, limits.limit)
    if limits.charge_bps is None:
        charge = offer.finance_charge * amount // checkout.total
    else:
        charge = (amount * limits.charge_bps + BASIS // 2) // BASIS
    installments = min(offer.installments, limits.installments or offer.installments)
    return Terms(amount, installments, charge)


def is_counter_offer(terms: Terms, checkout: Checkout) -> bool:
    """True if the terms lend less than requested, in fewer payments, or at a higher price."""
    offer = checkout.offer
    return (
        terms.amount < checkout.total
        or terms.installments < offer.installments
        or terms.finance_charge * checkout.total > offer.finance_charge * terms.amount
    )


def _of(choose: Callable[[Iterable[int]], int], first: int | None, second: int | None) -> int | None:
    known = [value for value in (first, second) if value is not None]
    return choose(known) if known else None
