"""Currencies, products and countries of the checkouts that are taken; all others are refused with 422."""

from __future__ import annotations

from candor import Acceptance
from lender.decision_table import policy

ACCEPTANCE = Acceptance(
    currencies=["USD", "NGN"],
    products=["pay_in_4", "pay_in_30", "short_term_loan"],
    countries=["US", "NG"],
    policy=policy(),
)
