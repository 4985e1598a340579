"""Views of customers, merchants and devices.

Checkouts and approvals of a customer are updated in the same transaction as the decision (`synchronous`), so concurrent
checkouts see each other. All other events arrive by the bus within seconds.

A merchant's volumes are excluded on purpose: they grow with the business, so a model would learn the calendar from them
(measured on real loans: AUC falls from 0.71 to 0.66). Its disputes and refunds are included instead.
"""

from __future__ import annotations

from candor import (
    Count,
    Distinct,
    FeatureView,
    Last,
    Max,
    Mean,
    Sum,
    TimeSinceLast,
    Variance,
    field,
    type_is,
)
from lender.entities import customer, device, merchant
from lender.events import (
    account_cleared,
    account_flagged,
    checkout_decided,
    checkout_started,
    dispute_closed,
    dispute_opened,
    loan_charged_off,
    loan_closed,
    loan_originated,
    payment_due,
    payment_failed,
    payment_reversed,
    payment_succeeded,
    refund_created,
)

_originated = type_is("loan.originated")
_closed = type_is("loan.closed")
_paid = type_is("payment.succeeded")
_due = type_is("payment.due")

customer_checkouts = FeatureView(
    name="customer_checkouts",
    entity=customer,
    events=[checkout_decided],
    aggregations=[Count()],
    windows=["1h", "24h", "7d"],
    synchronous=True,
)

customer_approvals = FeatureView(
    name="customer_approvals",
    entity=customer,
    events=[checkout_decided],
    aggregations=[Sum("approved_amount", name="amount")],
    windows=["1h"],  # as long as an approval may be used
    synchronous=True,
)

customer_loans = FeatureView(
    name="customer_loans",
    entity=customer,
    events=[loan_originated, loan_closed, loan_charged_off],
    aggregations=[
        Count(where=_originated, name="originated"),
        Sum("amount", where=_originated, name="originated_amount"),
        Mean("amount", where=_originated, name="mean_amount"),
        Mean("finance_charge", where=_originated, name="mean_finance_charge"),
        TimeSinceLast(where=_originated, name="since_originated"),
        Count(where=_closed, name="closed"),
        Sum("amount", where=_closed, name="closed_amount"),
        Mean("days_late", where=_closed, name="mean_days_late"),
        Count(where=type_is("loan.charged_off"), name="charged_off"),
    ],
    windows=["lifetime"],
)

customer_repayments = FeatureView(
    name="customer_repayments",
    entity=customer,
    events=[payment_due, payment_succeeded, payment_reversed],
    aggregations=[
        Count(where=_due, name="due"),
        TimeSinceLast(where=_due, name="since_due"),
        Count(where=_paid, name="paid"),
        TimeSinceLast(where=_paid, name="since_paid"),
        Count(where=type_is("payment.reversed"), name="reversed"),
        Mean("days_late"),
        Max("days_late"),
        Last("days_late"),
        Variance("days_late"),
        Count(where=field("days_late") > 0, name="late"),
        TimeSinceLast(where=field("days_late") > 0, name="since_late"),
    ],
    windows=["lifetime"],
)

customer_failures = FeatureView(
    name="customer_failures",
    entity=customer,
    events=[payment_failed, payment_reversed],
    aggregations=[Count()],
    windows=["30d", "90d"],
)

customer_account = FeatureView(
    name="customer_account",
    entity=customer,
    events=[account_flagged, account_cleared, dispute_opened, dispute_closed, refund_created],
    aggregations=[
        Count(where=type_is("account.flagged"), name="flagged"),
        Count(where=type_is("account.cleared"), name="cleared"),
        Count(where=type_is("dispute.opened"), name="disputes_opened"),
        Count(where=type_is("dispute.closed"), name="disputes_closed"),
        Sum("amount", where=type_is("refund.created"), name="refunded_amount"),
    ],
    windows=["lifetime"],
)

merchant_trust = FeatureView(
    name="merchant_trust",
    entity=merchant,
    events=[dispute_opened, refund_created],
    aggregations=[
        Count(where=type_is("dispute.opened"), name="disputes"),
        Count(where=type_is("refund.created"), name="refunds"),
    ],
    windows=["30d"],
)

device_sharing = FeatureView(
    name="device_sharing",
    entity=device,
    events=[checkout_started],
    aggregations=[Distinct("applicant")],
    windows=["24h"],
)

VIEWS = (
    customer_checkouts,
    customer_approvals,
    customer_loans,
    customer_repayments,
    customer_failures,
    customer_account,
    merchant_trust,
    device_sharing,
)
