"""Reasons of a decline: one factor each, no thresholds (Regulation B, comments 9(b)(2)-1 to -8).

Codes that begin with R are of the model and own its features. Those that begin with N are given of features that say
nothing: there is no history, or it could not be read. Those that begin with H are of a hard rule.
"""

from __future__ import annotations

from candor import Monotone, Reason

MODEL_REASONS = (
    Reason(
        "R01",
        "Payments made after their due date",
        "payment_timeliness",
        (
            "customer_repayments.*days_late.*",
            "customer_repayments.late.*",
            "customer_repayments.since_late.*",
            "customer_loans.mean_days_late.*",
            "request.late_share",
        ),
    ),
    Reason(
        "R02",
        "Instalments due and not paid",
        "unpaid_installments",
        ("request.unpaid_installments",),
    ),
    Reason(
        "R03",
        "Length and recency of the repayment record with us",
        "repayment_record",
        (
            "customer_repayments.due.*",
            "customer_repayments.since_due.*",
            "customer_repayments.paid.*",
            "customer_repayments.since_paid.*",
        ),
    ),
    Reason(
        "R04",
        "Number and recency of earlier loans with us",
        "loan_history",
        ("customer_loans.originated.*", "customer_loans.since_originated.*", "customer_loans.closed.*"),
    ),
    Reason(
        "R05",
        "Amount owed on loans with us",
        "amount_owed",
        (
            "customer_loans.originated_amount.*",
            "customer_loans.closed_amount.*",
            "customer_approvals.*",
            "request.exposure",
        ),
    ),
    Reason(
        "R06",
        "Amount requested compared with earlier loans",
        "amount_against_history",
        ("customer_loans.mean_amount.*", "request.amount_to_usual"),
    ),
    # Without a loan or an approval, exposure is the amount requested.
    Reason(
        "R07",
        "Amount of credit requested",
        "amount_requested",
        ("request.amount",),
        absent=("request.exposure",),
    ),
    Reason(
        "R08",
        "Length and cost of the credit",
        "terms",
        ("request.term_days", "request.finance_charge_rate", "customer_loans.mean_finance_charge.*"),
    ),
    Reason(
        "R09", "Number of recent applications for credit", "recent_applications", ("customer_checkouts.*",)
    ),
    Reason(
        "R10",
        "Payments refused or taken back",
        "failed_payments",
        ("customer_failures.*", "customer_repayments.reversed.*"),
    ),
    Reason("R11", "Loans with us that were not repaid", "charged_off", ("customer_loans.charged_off.*",)),
    Reason(
        "R12",
        "Disputes, refunds and reviews on the account",
        "account_activity",
        ("customer_account.*",),
    ),
    Reason("R13", "Disputes and refunds at the shop", "merchant_record", ("merchant_trust.*",)),
    Reason("R14", "Applications made from the same device", "device_use", ("device_sharing.*",)),
)

# The first one that is true is given: without loans and repayments, N01 stands for both.
HISTORY_REASONS = (
    Reason(
        "N01",
        "No history of credit with us in recent years",
        "no_history",
        absent=(
            "customer_loans.*",
            "customer_repayments.*",
            "request.amount_to_usual",
            "request.late_share",
        ),
    ),
    Reason(
        "N02",
        "No loans with us in recent years",
        "no_loans",
        absent=("customer_loans.*", "request.amount_to_usual"),
    ),
    Reason(
        "N03",
        "No repayments to us in recent years",
        "no_repayments",
        absent=("customer_repayments.*", "request.late_share"),
    ),
    Reason(
        "N04",
        "No disputes, refunds or reviews on the account in recent years",
        "no_account_activity",
        absent=("customer_account.*",),
    ),
    Reason(
        "N05",
        "Your history with us could not be read",
        "history_unread",
        unavailable=(
            "customer_*",
            "request.amount_to_usual",
            "request.exposure",
            "request.late_share",
            "request.unpaid_installments",
        ),
    ),
    Reason(
        "N06",
        "Records of the shop or of the device could not be read",
        "records_unread",
        unavailable=("merchant_*", "device_*"),
    ),
)

POLICY_REASONS = (
    Reason("H01", "The account is under review", "account_under_review"),
    Reason("H02", "A dispute on the account is open", "open_dispute"),
    Reason("H03", "Recent payments were refused or taken back", "payments_refused"),
    Reason("H04", "Instalments are overdue", "overdue"),
    Reason("H05", "An earlier loan with us was not repaid", "earlier_loan_not_repaid"),
    Reason("H06", "Too many recent applications for credit with us", "applications_velocity"),
    Reason("H07", "Amount owed with this purchase is more than we lend to one person", "exposure_limit"),
    Reason("H08", "Amount of this purchase is more than we lend at once", "amount_limit"),
    Reason("H09", "Amount of this purchase is more than we lend to new customers", "first_loan_limit"),
    Reason("H10", "We do not lend in the currency of this purchase", "currency"),
)

REASONS = MODEL_REASONS + HISTORY_REASONS + POLICY_REASONS

MONOTONE = Monotone(
    adverse=(
        "customer_repayments.m*_days_late.*",
        "customer_repayments.last_days_late.*",
        "customer_repayments.late.*",
        "customer_repayments.reversed.*",
        "customer_loans.mean_days_late.*",
        "customer_loans.charged_off.*",
        "customer_failures.*",
        "customer_checkouts.*",
        "customer_approvals.*",
        "merchant_trust.*",
        "device_sharing.*",
        "request.late_share",
        "request.unpaid_installments",
    )
)
"""Constraints that make reasons defensible and true.

All else equal, paying later, applying more often, or more disputes at the shop never lower the risk. Where there is none
of it, it is no reason.
"""
