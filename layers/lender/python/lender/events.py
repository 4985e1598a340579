"""Event types of customers, loans and merchants, from the lender's services and the platform.

Money is integer minor units of `currency`, moments are ms UTC. `days_late` counts whole days after the due date,
rounded down: negative when early. Every event of a loan or a payment carries `loan_id`.
"""

from __future__ import annotations

from candor import EventType, Integer, Json, Money, Text, decided_type
from lender.entities import customer, device, merchant

_payment = {
    "loan_id": Text(),
    "amount": Money(),
    "currency": Text(),
    "installment": Integer(optional=True),
}

checkout_started = EventType(
    "checkout.started",
    entities=[customer, merchant, device],
    fields={
        "checkout_id": Text(),
        "total": Money(),
        "currency": Text(),
        "applicant": Text(optional=True),
        "checkout": Json(),
    },
)
checkout_decided = decided_type([customer, merchant, device])
loan_originated = EventType(
    "loan.originated",
    entities=[customer, merchant],
    fields={
        "checkout_id": Text(),
        "loan_id": Text(),
        "amount": Money(),
        "currency": Text(),
        "finance_charge": Money(optional=True),
        "installments": Integer(optional=True),
        "first_due_at": Integer(),
        "final_due_at": Integer(),
    },
)
loan_closed = EventType(
    "loan.closed",
    entities=[customer],
    fields={
        "loan_id": Text(),
        "amount": Money(),
        "currency": Text(),
        "days_late": Integer(optional=True, unit="days"),
    },
)
loan_charged_off = EventType(
    "loan.charged_off",
    entities=[customer],
    fields={"loan_id": Text(), "amount": Money(), "currency": Text()},
)
payment_due = EventType("payment.due", entities=[customer], fields=_payment)
payment_succeeded = EventType(
    "payment.succeeded",
    entities=[customer],
    fields={**_payment, "days_late": Integer(optional=True, unit="days")},
)
payment_failed = EventType(
    "payment.failed",
    entities=[customer],
    fields={**_payment, "failure_code": Text(optional=True)},
)
payment_reversed = EventType("payment.reversed", entities=[customer], fields=_payment)
refund_created = EventType(
    "refund.created",
    entities=[customer, merchant],
    fields={"loan_id": Text(optional=True), "amount": Money(), "currency": Text()},
)
dispute_opened = EventType(
    "dispute.opened",
    entities=[customer, merchant],
    fields={"dispute_id": Text(), "loan_id": Text(optional=True), "amount": Money(), "currency": Text()},
)
dispute_closed = EventType(
    "dispute.closed",
    entities=[customer, merchant],
    fields={"dispute_id": Text(), "loan_id": Text(optional=True), "won_by": Text(optional=True)},
)
account_flagged = EventType("account.flagged", entities=[customer], fields={"flag": Text()})
account_cleared = EventType("account.cleared", entities=[customer], fields={"flag": Text()})

EVENTS = (
    checkout_started,
    checkout_decided,
    loan_originated,
    loan_closed,
    loan_charged_off,
    payment_due,
    payment_succeeded,
    payment_failed,
    payment_reversed,
    refund_created,
    dispute_opened,
    dispute_closed,
    account_flagged,
    account_cleared,
)
