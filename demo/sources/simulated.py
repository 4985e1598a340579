"""A simulated pay-later lender: the population of the demo when no data are given.

Risk is latent: it shows only in payments made late, refused or never made, and defaults are known weeks after the
checkout. Demand has seasons; occasionally a burst of strangers shares one device and never pays.

Customers come and go at one rate, so that no month differs from another but by season and chance. Loans of the first
months are known from the lender's books alone, without the requests that led to them: whoever was a customer then has
left when the first request was recorded. The same arguments give the same bytes.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from candor.clock import DAY, HOUR, MINUTE, parse_rfc3339
from demo.sources import lending, population
from demo.sources.base import (
    Event,
    SourceCheckout,
    SourceError,
    decided_earlier,
    interleave,
    make_event,
    moment,
)
from demo.sources.lending import CURRENCY, PAY_IN_4, PAY_IN_30, Course, Product, SimulatedLoan
from demo.sources.population import MEMBERSHIP, MERCHANTS, Customer, Merchant

ENDS = parse_rfc3339("2026-07-31T00:00:00Z")
"""The default end of the timeline: a fixed moment, so that runs repeat."""

BOOKS = MEMBERSHIP
RECORDED = 180 * DAY
DECIDED = 60 * DAY
"""Lengths (ms) of the parts of the timeline: loans alone, requests too, checkouts to decide. The last is as long as the
slowest label takes, so that some are known."""

CUSTOMERS = 900
ABANDONED = 0.04
RETURNING = 0.15
"""Share of their usual visits that people in arrears still make."""

CUSTOMERS_PER_BURST = 150
BASE_LOG_ODDS = -3.1
LOG_ODDS_PER_RISK = 1.7


@dataclass(frozen=True)
class Timeline:
    """Moments (ms UTC) of a lender whose timeline ends at `ends`.

    Loans begin at `opened`, requests are recorded from `recorded` on, and decided by the platform from `as_of` on.
    """

    ends: int

    @property
    def as_of(self) -> int:
        return self.ends - DECIDED

    @property
    def recorded(self) -> int:
        return self.as_of - RECORDED

    @property
    def opened(self) -> int:
        return self.recorded - BOOKS


class SimulatedLender:
    """The population as a source: `customers` people, whose timeline ends before `ends` (ms UTC).

    With `checkouts`, only so many are to be decided, and the timeline ends with the last of them.
    """

    name = "simulated"
    merchants = tuple(merchant.id for merchant in MERCHANTS)

    def __init__(
        self, seed: int = 1, customers: int = CUSTOMERS, checkouts: int | None = None, ends: int = ENDS
    ) -> None:
        if customers < 1 or (checkouts is not None and checkouts < 1):
            raise SourceError("a simulated lender needs at least one customer and one checkout")
        timeline = Timeline(ends)
        self.as_of = timeline.as_of
        lives = [_life(seed, number, timeline) for number in range(customers)]
        bursts = math.ceil(customers / CUSTOMERS_PER_BURST)
        lives += [_burst(seed, number, timeline) for number in range(bursts)]
        started = sorted((c for life in lives for c in life.checkouts), key=attrgetter("q_ms", "id"))
        first = bisect_left(started, self.as_of, key=attrgetter("q_ms"))
        self._checkouts = started[first:][:checkouts]
        end = ends if checkouts is None or not self._checkouts else self._checkouts[-1].q_ms + 1
        timed = sorted((moment(event), event) for life in lives for event in life.events)
        self._events = [event for (at, _), event in timed if at < end]
        self._split = bisect_left(timed, self.as_of, key=lambda pair: pair[0][0])

    def history(self) -> Iterator[Event]:
        return iter(self._events[: self._split])

    def checkouts(self) -> Iterator[SourceCheckout]:
        return iter(self._checkouts)

    def timeline(self) -> Iterator[Event | SourceCheckout]:
        return interleave(self._events[self._split :], self._checkouts)


class _Life:
    """Checkouts and events of one customer, drawn purchase by purchase."""

    def __init__(self, rng: random.Random, customer: Customer, timeline: Timeline) -> None:
        self.rng = rng
        self.customer = customer
        self.timeline = timeline
        self.checkouts: list[SourceCheckout] = []
        self.events: list[Event] = []
        self.courses: list[Course] = []

    def buy(self, at: int, merchant: Merchant, amount: int, product: Product) -> Course | None:
        """Draw a checkout and, unless the lender refused it or the customer abandoned it, its loan."""
        entities = {"customer": self.customer.token, "merchant": merchant.id}
        number = len(self.checkouts)
        loan = SimulatedLoan(
            f"{self.customer.token.removeprefix('app_tok_')}_{number}", entities, at, amount, product
        )
        body = _body(self.rng, loan, merchant, self.customer)
        refused = self.in_arrears_at(at)
        if at >= self.timeline.recorded:
            self.events.append(_started(loan, body))
        if self.timeline.recorded <= at < self.timeline.as_of:
            self.events.append(_decided(loan, body, "declined" if refused else "approved"))
        if refused or self.rng.random() < ABANDONED:
            self.checkouts.append(SourceCheckout(loan.id, at, body, None, merchant.id))
            return None
        defaults = self.rng.random() < self._default_probability(at, merchant, amount)
        course = lending.run(self.rng, loan, self.customer.risk, defaults=defaults)
        self.courses.append(course)
        self.events += course.events
        self.checkouts.append(SourceCheckout(loan.id, at, body, int(course.bad), merchant.id))
        return course

    def in_arrears_at(self, at: int) -> bool:
        """True if any loan is in arrears."""
        return any(course.in_arrears_at(at) for course in self.courses)

    def _default_probability(self, at: int, merchant: Merchant, amount: int) -> float:
        """Probability from latent risk, merchant, a basket beyond the customer's means, and loans still open."""
        stretch = math.log(amount / (merchant.basket * self.customer.means))
        open_loans = sum(course.open_at(at) for course in self.courses)
        log_odds = (
            BASE_LOG_ODDS
            + LOG_ODDS_PER_RISK * self.customer.risk
            + merchant.risk
            + 0.8 * stretch
            + 0.25 * open_loans
        )
        return 1.0 / (1.0 + math.exp(-log_odds))


def _life(seed: int, number: int, timeline: Timeline) -> _Life:
    """An ordinary customer, from joining to leaving, or to the end of the timeline."""
    rng = random.Random(f"{seed}/customer/{number}")
    customer = population.customer(rng, number, timeline.opened - MEMBERSHIP, timeline.ends)
    life = _Life(rng, customer, timeline)
    begins, leaves = max(timeline.opened, customer.joined_at), min(timeline.ends, customer.leaves_at)
    for at in population.visits(rng, customer.pace, begins, leaves):
        if life.in_arrears_at(at) and rng.random() > RETURNING:
            continue
        merchant = rng.choices(MERCHANTS, [shop.share for shop in MERCHANTS])[0]
        amount = _basket(rng, merchant, customer.means)
        product = PAY_IN_4 if rng.random() < min(0.8, amount / 40_000) else PAY_IN_30
        course = life.buy(at, merchant, amount, product)
        if course is not None:
            life.events += _aftermath(rng, course, merchant)
    life.events += _reviews(rng, customer, begins, leaves)
    return life


def _burst(seed: int, number: int, timeline: Timeline) -> _Life:
    """Strangers on one device within hours: large baskets that nobody repays, some disputed by the victim.

    The first burst falls among the checkouts to decide, the others into history.
    """
    rng = random.Random(f"{seed}/burst/{number}")
    as_of, recorded = timeline.as_of, timeline.recorded
    first = population.customer(rng, 90_000 + 100 * number, recorded, recorded + 1)
    first_day, last_day = (as_of + 2 * DAY, as_of + 18 * DAY) if number == 0 else (recorded, as_of)
    start = rng.randrange(first_day, last_day)
    merchant = rng.choice(MERCHANTS)
    whole = _Life(rng, first, timeline)
    for turn in range(rng.randint(5, 8)):
        stranger = replace(first, token=f"{first.token}{turn}", joined_at=start, risk=3.0, means=2.0)
        life = _Life(rng, stranger, timeline)
        at = start + rng.randrange(turn * 12 * MINUTE + 1, (turn + 1) * 20 * MINUTE)
        course = life.buy(at, merchant, rng.randrange(25_000, 95_000), PAY_IN_4)
        if course is not None and rng.random() < 0.6:
            life.events += _claimed(rng, course)
        whole.checkouts += life.checkouts
        whole.events += life.events
    return whole


def _basket(rng: random.Random, merchant: Merchant, means: float) -> int:
    amount = merchant.basket * means * math.exp(rng.gauss(0.0, 0.55))
    return int(min(max(amount, 2_000), 150_000))


def _aftermath(rng: random.Random, course: Course, merchant: Merchant) -> Iterator[Event]:
    """Refunds, and disputes that are settled after some weeks."""
    loan = course.loan
    if rng.random() < 0.05 + 0.04 * max(merchant.risk, 0.0):
        at = loan.created_at + rng.randrange(2 * DAY, 14 * DAY)
        yield loan.event("refund.created", at, _about(loan, loan.principal // rng.randint(2, 5)))
    if rng.random() < 0.012 + 0.03 * max(merchant.risk, 0.0):
        opened_at = loan.created_at + rng.randrange(4 * DAY, 25 * DAY)
        data = {"dispute_id": f"dsp_{loan.id}", **_about(loan, loan.principal)}
        yield loan.event("dispute.opened", opened_at, data)
        closed = {"dispute_id": f"dsp_{loan.id}", "loan_id": f"loan_{loan.id}", "won_by": "merchant"}
        yield loan.event("dispute.closed", opened_at + rng.randrange(5 * DAY, 20 * DAY), closed)


def _claimed(rng: random.Random, course: Course) -> Iterator[Event]:
    """Events of identity theft: the victim disputes the loan, and the account stays flagged."""
    loan = course.loan
    at = loan.created_at + rng.randrange(6 * DAY, 20 * DAY)
    data = {"dispute_id": f"dsp_{loan.id}", **_about(loan, loan.principal)}
    yield loan.event("dispute.opened", at, data)
    yield loan.event("account.flagged", at + HOUR, {"flag": "identity"})


def _reviews(rng: random.Random, customer: Customer, begins: int, leaves: int) -> Iterator[Event]:
    """Events of an occasional account review: flagged, and cleared some days later."""
    if rng.random() >= 0.06 or begins >= leaves:
        return
    flagged_at = rng.randrange(begins, leaves)
    entities = {"customer": customer.token}
    for kind, at in (("flagged", flagged_at), ("cleared", flagged_at + rng.randrange(DAY, 9 * DAY))):
        event_id = f"evt_{customer.token}_{kind}"
        yield make_event(event_id, f"account.{kind}", at, entities, {"flag": "address"})


def _about(loan: SimulatedLoan, amount: int) -> dict[str, Any]:
    return {"loan_id": f"loan_{loan.id}", "amount": amount, "currency": CURRENCY}


def _started(loan: SimulatedLoan, body: dict[str, Any]) -> Event:
    data = {
        "checkout_id": body["checkout_id"],
        "total": loan.principal,
        "currency": CURRENCY,
        "applicant": loan.entities["customer"],
        "checkout": body,
    }
    event_id = f"evt_{loan.id}_checkout_started"
    return make_event(event_id, "checkout.started", loan.created_at, _named(loan, body), data)


def _decided(loan: SimulatedLoan, body: dict[str, Any], outcome: str) -> Event:
    event_id = f"evt_{loan.id}_checkout_decided"
    return decided_earlier(event_id, loan.created_at, _named(loan, body), body, outcome)


def _named(loan: SimulatedLoan, body: dict[str, Any]) -> dict[str, str]:
    """The entities of a checkout."""
    return {**loan.entities, "device": body["device"]["fingerprint"]}


def _body(rng: random.Random, loan: SimulatedLoan, merchant: Merchant, customer: Customer) -> dict[str, Any]:
    """The request that the merchant posted for this loan."""
    tax, shipping = loan.principal * 7 // 107, rng.choice((0, 0, 499, 899))
    return {
        "checkout_id": f"chk_{loan.id}",
        "merchant_order_id": f"order_{loan.id}",
        "country": "US",
        "currency": CURRENCY,
        "total": loan.principal,
        "tax_amount": tax,
        "shipping_amount": shipping,
        "discount_amount": 0,
        "items": [
            {
                "sku": f"{merchant.category}-{rng.randint(1, 99)}",
                "category": merchant.category,
                "unit_price": loan.principal - tax - shipping,
                "qty": 1,
            }
        ],
        "applicant": {"token": customer.token, "shipping_matches_billing": rng.random() < 0.93},
        "offer": {
            "product": loan.product.name,
            "installments": loan.product.installments,
            "period_days": loan.product.period_days,
            "finance_charge": loan.finance_charge,
        },
        "device": {"fingerprint": customer.device, "session_age_s": rng.randint(20, 1_800)},
    }
