"""Course of a simulated loan: instalments paid, late, refused, reversed, or never paid."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from candor.clock import DAY, HOUR
from demo.sources.base import Event, make_event

CURRENCY = "USD"
GRACE = 3 * DAY
RETRIES = (0, 3, 6)
"""Days after a missed due date on which the lender asks the card again."""

LATENESS, LATENESS_PER_RISK, LATENESS_SPREAD = -1.5, 1.6, 1.2
"""Days after the due date that a payment arrives: mean of an average person, per unit of risk, and spread."""

CHARGE_OFF_AFTER = 45 * DAY


@dataclass(frozen=True)
class Product:
    """`installments` payments `period_days` apart, at `rate` of the amount."""

    name: str
    installments: int
    period_days: int
    rate: float


PAY_IN_30 = Product("pay_in_30", 1, 30, 0.02)
PAY_IN_4 = Product("pay_in_4", 4, 14, 0.0)


@dataclass(frozen=True)
class SimulatedLoan:
    """A checkout that became a loan. Money is in minor units, moments are ms UTC."""

    id: str
    entities: dict[str, str]
    created_at: int
    principal: int
    product: Product

    @property
    def finance_charge(self) -> int:
        return round(self.principal * self.product.rate)

    @property
    def final_due_at(self) -> int:
        return self.due_at(self.product.installments)

    def due_at(self, installment: int) -> int:
        """Due moment of an instalment, counted from 1."""
        return self.created_at + installment * self.product.period_days * DAY

    def payment(self, installment: int) -> dict[str, Any]:
        """Data of a payment event; the last instalment takes the rounding."""
        whole = self.principal + self.finance_charge
        share = whole // self.product.installments
        last = installment == self.product.installments
        amount = whole - share * (installment - 1) if last else share
        return {
            "loan_id": f"loan_{self.id}",
            "installment": installment,
            "amount": amount,
            "currency": CURRENCY,
        }

    def event(self, kind: str, at: int, data: dict[str, Any], part: int = 0) -> Event:
        """An event of this loan; `part` distinguishes several of one kind."""
        name = f"evt_{self.id}_{kind.replace('.', '_')}_{part}"
        return make_event(name, kind, at, self.entities, data)


@dataclass(frozen=True)
class Course:
    """Course of a loan: its events, and when it closed, if it did (ms UTC)."""

    loan: SimulatedLoan
    events: list[Event]
    closed_at: int | None
    missed_at: int | None = None

    @property
    def bad(self) -> bool:
        """Not closed by the last due date plus grace."""
        return self.closed_at is None or self.closed_at > self.loan.final_due_at + GRACE

    def open_at(self, at: int) -> bool:
        return self.closed_at is None or self.closed_at >= at

    def in_arrears_at(self, at: int) -> bool:
        """True if an instalment was missed and every retry has failed."""
        asked_at = math.inf if self.missed_at is None else self.missed_at + RETRIES[-1] * DAY
        return at > asked_at and self.open_at(at)


def run(rng: random.Random, loan: SimulatedLoan, risk: float, *, defaults: bool) -> Course:
    """Draw the loan's course. `risk` moves lateness; a loan that `defaults` stops being paid at some instalment."""
    stops_at = rng.randint(1, loan.product.installments) if defaults else loan.product.installments + 1
    events = [_originated(loan)]
    paid_at = loan.created_at
    for installment in range(1, loan.product.installments + 1):
        events.append(_due(loan, installment))
        if installment < stops_at:
            paid_at = max(paid_at + 1, _payment_moment(rng, loan, installment, risk))
            events += _paid(rng, loan, installment, paid_at)
        else:
            events += _refusals(loan, installment)
    if not defaults:
        return Course(loan, [*events, _closed(loan, paid_at)], paid_at)
    return _after_default(rng, loan, stops_at, risk, events)


def _after_default(
    rng: random.Random, loan: SimulatedLoan, stops_at: int, risk: float, events: list[Event]
) -> Course:
    missed_at = loan.due_at(stops_at)
    if rng.random() > 0.6 - 0.12 * risk:
        at = loan.final_due_at + CHARGE_OFF_AFTER
        return Course(loan, [*events, _charged_off(loan, at)], None, missed_at)
    cured_at = loan.final_due_at + rng.randrange(GRACE + 6 * HOUR, 35 * DAY)
    rest = range(stops_at, loan.product.installments + 1)
    events += [_succeeded(loan, installment, cured_at) for installment in rest]
    return Course(loan, [*events, _closed(loan, cured_at)], cured_at, missed_at)


def _payment_moment(rng: random.Random, loan: SimulatedLoan, installment: int, risk: float) -> int:
    """Moment (ms) some days around the due date; the last payment of a good loan stays within the grace period."""
    days = rng.gauss(LATENESS + LATENESS_PER_RISK * risk, LATENESS_SPREAD)
    latest = 2.8 if installment == loan.product.installments else 9.0
    return loan.due_at(installment) + int(max(min(days, latest), -10.0) * DAY)


def _paid(rng: random.Random, loan: SimulatedLoan, installment: int, at: int) -> Iterator[Event]:
    if at > loan.due_at(installment):
        yield _failed(loan, installment, loan.due_at(installment), 0)
    yield _succeeded(loan, installment, at)
    if installment < loan.product.installments and rng.random() < 0.01:
        taken_back = at + rng.randrange(DAY, 2 * DAY)
        yield loan.event("payment.reversed", taken_back, loan.payment(installment), installment)
        yield _succeeded(loan, installment, taken_back + DAY, part=100 + installment)


def _refusals(loan: SimulatedLoan, installment: int) -> Iterator[Event]:
    for turn, days in enumerate(RETRIES):
        yield _failed(loan, installment, loan.due_at(installment) + days * DAY, turn)


def _originated(loan: SimulatedLoan) -> Event:
    data = {
        "checkout_id": f"chk_{loan.id}",
        "loan_id": f"loan_{loan.id}",
        "amount": loan.principal,
        "currency": CURRENCY,
        "finance_charge": loan.finance_charge,
        "installments": loan.product.installments,
        "first_due_at": loan.due_at(1),
        "final_due_at": loan.final_due_at,
    }
    return loan.event("loan.originated", loan.created_at, data)


def _due(loan: SimulatedLoan, installment: int) -> Event:
    return loan.event("payment.due", loan.due_at(installment), loan.payment(installment), installment)


def _succeeded(loan: SimulatedLoan, installment: int, at: int, part: int | None = None) -> Event:
    late = (at - loan.due_at(installment)) // DAY
    data = {**loan.payment(installment), "days_late": late}
    return loan.event("payment.succeeded", at, data, installment if part is None else part)


def _failed(loan: SimulatedLoan, installment: int, at: int, turn: int) -> Event:
    data = {**loan.payment(installment), "failure_code": "insufficient_funds"}
    return loan.event("payment.failed", at, data, installment * 10 + turn)


def _closed(loan: SimulatedLoan, at: int) -> Event:
    data = {"loan_id": f"loan_{loan.id}", "amount": loan.principal, "currency": CURRENCY}
    return loan.event("loan.closed", at, {**data, "days_late": (at - loan.final_due_at) // DAY})


def _charged_off(loan: SimulatedLoan, at: int) -> Event:
    data = {"loan_id": f"loan_{loan.id}", "amount": loan.principal, "currency": CURRENCY}
    return loan.event("loan.charged_off", at, data)
