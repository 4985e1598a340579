"""Valid checkouts as merchants post them, and every kind of invalid one."""

from __future__ import annotations

from typing import Any

from tests.handlers.lending import CANARY

SMALL, RISKY, ABOVE_FIRST_LOAN = 4_000, 90_000, 150_000
"""Amounts in US cents: approved, declined by the trained model, declined by the lender's own limit."""


def checkout(total: int = SMALL, token: str = "cus_1", **changes: Any) -> dict[str, Any]:
    return {
        "checkout_id": "chk_1",
        "merchant_order_id": "A-1",
        "country": "US",
        "currency": "USD",
        "total": total,
        "items": [{"sku": "SKU-1", "category": "shoes", "unit_price": total, "qty": 1}],
        "applicant": {"token": token, "email_sha256": "0" * 64, "shipping_matches_billing": True},
        "offer": {"product": "pay_in_4", "installments": 4, "period_days": 14, "finance_charge": 0},
        "device": {"fingerprint": "dev_1", "ip_prefix": "203.0.113.0/24", "session_age_s": 410},
    } | changes


def planted() -> dict[str, Any]:
    """A valid checkout with the canary in every field that takes free text."""
    return checkout(
        checkout_id=CANARY,
        merchant_order_id=CANARY,
        items=[{"sku": CANARY, "category": CANARY, "unit_price": SMALL, "qty": 1}],
        applicant={"token": CANARY},
        offer={"product": "pay_in_4", "installments": 4, "period_days": 14},
        device={"fingerprint": CANARY, "ip_prefix": CANARY},
    )


BAD_CHECKOUTS: dict[str, tuple[Any, int, str, str | None]] = {
    "not JSON": ("no JSON", 400, "malformed_json", None),
    "no body": ("", 400, "malformed_json", None),
    "not an object": ("[]", 422, "invalid_field", None),
    "nested without end": ("[" * 50_000, 422, "invalid_field", None),
    "nothing": ({}, 422, "missing_field", "checkout_id"),
    "a currency that is not lent in": (checkout(currency="JPY"), 422, "unsupported_currency", "currency"),
    "a country that is not lent in": (checkout(country="DE"), 422, "unsupported_country", "country"),
    "a country that is none": (checkout(country="ZZ"), 422, "unsupported_country", "country"),
    "a product that is not lent": (
        checkout(offer={"product": "pay_in_nirvana", "installments": 4, "period_days": 14}),
        422,
        "unsupported_product",
        "offer.product",
    ),
    "an unknown currency": (checkout(currency="XXX"), 422, "unknown_currency", "currency"),
    "a lower-case currency": (checkout(currency="usd"), 422, "unknown_currency", "currency"),
    "a currency that is a list": (checkout(currency=["USD"]), 422, "invalid_field", "currency"),
    "a negative total": (checkout(-5), 422, "invalid_field", "total"),
    "a fractional total": (checkout(12.5), 422, "invalid_field", "total"),
    "a total with a point": (checkout(4000.0), 422, "invalid_field", "total"),
    "a total in text": (checkout("4000"), 422, "invalid_field", "total"),
    "a total that is true": (checkout(True), 422, "invalid_field", "total"),
    "nothing to pay": (checkout(0), 422, "invalid_field", "total"),
    "too much": (checkout(10**12 + 1), 422, "invalid_field", "total"),
    "beyond any integer": (checkout(10**30), 422, "invalid_field", "total"),
    "a negative price": (
        checkout(items=[{"sku": "s", "unit_price": -1, "qty": 1}]),
        422,
        "invalid_field",
        "items[0].unit_price",
    ),
    "a fraction of a thing": (
        checkout(items=[{"sku": "s", "unit_price": 4_000, "qty": 0.5}]),
        422,
        "invalid_field",
        "items[0].qty",
    ),
    "no items": (checkout(items=[]), 422, "invalid_field", "items"),
    "a total that does not add up": (checkout(tax_amount=1), 422, "total_mismatch", "total"),
    "a negative discount": (checkout(discount_amount=-1), 422, "invalid_field", "discount_amount"),
    "no applicant": (checkout(applicant={}), 422, "missing_field", "applicant.token"),
    "an empty applicant": (checkout(token=""), 422, "invalid_field", "applicant.token"),
    "a plain e-mail address": (
        checkout(applicant={"token": "t", "email_sha256": "ann@example.com"}),
        422,
        "invalid_field",
        "applicant.email_sha256",
    ),
    "no instalments": (
        checkout(offer={"product": "pay_in_4", "installments": 0, "period_days": 14}),
        422,
        "invalid_field",
        "offer.installments",
    ),
    "an unknown field": (checkout(tip=1), 422, "invalid_field", "tip"),
    "an unknown field inside": (checkout(device={"imei": "1"}), 422, "invalid_field", "device.imei"),
    "another merchant": (checkout(merchant_id="mer_2"), 422, "invalid_field", "merchant_id"),
    "a clock in the future": (
        checkout(occurred_at="2999-01-01T00:00:00Z"),
        422,
        "occurred_in_future",
        "occurred_at",
    ),
    "a clock without offset": (
        checkout(occurred_at="2026-01-01T00:00:00"),
        422,
        "invalid_timestamp",
        "occurred_at",
    ),
    "a clock before 1970": (
        checkout(occurred_at="1969-01-01T00:00:00Z"),
        422,
        "invalid_timestamp",
        "occurred_at",
    ),
    "no clock at all": (checkout(occurred_at="now"), 422, "invalid_timestamp", "occurred_at"),
}
"""Body, and the status, code and field that it is refused with."""
