"""On-demand features, of the request and the windowed features. Money is in minor units, rates are fractions."""

from __future__ import annotations

from collections.abc import Mapping

from candor import Checkout, OnDemand

Features = Mapping[str, float]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def amount(checkout: Checkout, _features: Features) -> int:
    """Requested amount."""
    return checkout.total


def term_days(checkout: Checkout, _features: Features) -> int:
    """Days until the last instalment."""
    return checkout.offer.installments * checkout.offer.period_days


def finance_charge_rate(checkout: Checkout, _features: Features) -> float | None:
    """Price of the loan per unit borrowed."""
    return _ratio(checkout.offer.finance_charge, checkout.total)


def amount_to_usual(checkout: Checkout, features: Features) -> float | None:
    """Requested amount divided by the customer's mean loan; None without a loan."""
    return _ratio(checkout.total, features["customer_loans.mean_amount.lifetime"])


def exposure(checkout: Checkout, features: Features) -> float:
    """Open principal if this loan is granted and every approval of the last hour is used.

    Charged-off principal is still open. An approval that became a loan within its hour counts twice until that hour is
    over: no key links the two, and a limit must err on the safe side.
    """
    outstanding = (
        features["customer_loans.originated_amount.lifetime"]
        - features["customer_loans.closed_amount.lifetime"]
    )
    return checkout.total + outstanding + features["customer_approvals.amount.1h"]


def late_share(_checkout: Checkout, features: Features) -> float | None:
    """Share of the customer's payments that were late; None without a payment."""
    return _ratio(
        features["customer_repayments.late.lifetime"], features["customer_repayments.paid.lifetime"]
    )


def unpaid_installments(_checkout: Checkout, features: Features) -> float:
    """Instalments due so far less payments not reversed; negative for a customer who pays ahead."""
    settled = (
        features["customer_repayments.paid.lifetime"] - features["customer_repayments.reversed.lifetime"]
    )
    return features["customer_repayments.due.lifetime"] - settled


ON_DEMAND = (
    OnDemand("amount", amount, unit="money"),
    OnDemand("term_days", term_days, unit="days"),
    OnDemand("finance_charge_rate", finance_charge_rate, unit="ratio"),
    OnDemand("amount_to_usual", amount_to_usual, unit="ratio"),
    OnDemand("exposure", exposure, version=2, unit="money"),
    OnDemand("late_share", late_share, unit="ratio"),
    OnDemand("unpaid_installments", unpaid_installments, unit="count"),
)
