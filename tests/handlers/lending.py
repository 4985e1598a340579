"""Events and checkouts of the lender that is deployed, with a canary in every field that a caller fills."""

from __future__ import annotations

import json
from typing import Any

from candor.clock import HOUR, SystemClock, format_rfc3339

CANARY = "canary"
"""The canary: no log line may contain it."""


def ago(ms: int) -> str:
    return format_rfc3339(SystemClock().now_ms() - ms)


def payment(event_id: str, customer: str = "cus_1", **changes: Any) -> dict[str, Any]:
    """A failed payment as the lender's services report it."""
    return {
        "event_id": event_id,
        "type": "payment.failed",
        "occurred_at": ago(HOUR),
        "schema_version": 1,
        "entities": {"customer": customer},
        "data": {"loan_id": "loan_1", "amount": 2_500, "currency": "USD"},
    } | changes


def canary_payment(**changes: Any) -> dict[str, Any]:
    data = {
        "loan_id": CANARY,
        "amount": 2_500,
        "currency": "USD",
        "failure_code": CANARY,
        "note": {CANARY: [CANARY]},
    }
    entities = {"customer": CANARY, "merchant": CANARY, CANARY: CANARY}
    return payment(f"evt_{CANARY}", entities=entities, data=data) | changes


def bad_events() -> dict[str, tuple[Any, str]]:
    """Invalid events, each with its error code; the canary is in the invalid member."""
    good = canary_payment()
    data = good["data"]
    return {
        "no object": (CANARY, "invalid_field"),
        "an unknown type": (good | {"type": CANARY}, "unknown_event_type"),
        "an unknown field": (good | {f"{CANARY}@home 1": CANARY}, "invalid_field"),
        "an id too long": (good | {"event_id": CANARY * 50}, "invalid_field"),
        "an id that is a list": (good | {"event_id": [CANARY]}, "invalid_field"),
        "no date": (good | {"occurred_at": CANARY}, "invalid_timestamp"),
        "the future": (good | {"occurred_at": ago(-HOUR)}, "occurred_in_future"),
        "voided before it occurred": (good | {"voided_at": ago(2 * HOUR)}, "invalid_void"),
        "another schema": (good | {"schema_version": CANARY}, "invalid_field"),
        "a newer schema": (good | {"schema_version": 2}, "unknown_schema_version"),
        "nobody": (good | {"entities": {CANARY: CANARY}}, "missing_entity"),
        "an entity that is a number": (good | {"entities": {"customer": 7}}, "invalid_field"),
        "an empty entity": (good | {"entities": {"customer": ""}}, "invalid_field"),
        "a fraction": (good | {"data": data | {"amount": 12.5}}, "invalid_field"),
        "text for an amount": (good | {"data": data | {"amount": CANARY}}, "invalid_field"),
        "an amount out of bounds": (good | {"data": data | {"amount": -(10**12) - 1}}, "out_of_range"),
        "no amount": (good | {"data": {"loan_id": CANARY, "currency": "USD"}}, "missing_field"),
        "an unknown currency": (good | {"data": data | {"currency": CANARY}}, "unknown_currency"),
        "a currency in a list": (good | {"data": data | {"currency": [CANARY]}}, "invalid_field"),
        "an undeclared currency in a list": (
            good | {"type": "account.flagged", "data": {"flag": CANARY, "currency": [CANARY]}},
            "unknown_currency",
        ),
        "data that is text": (good | {"data": CANARY}, "invalid_field"),
    }


BAD_EVENTS = bad_events()


def envelope(event: Any) -> str:
    """The queue message's body: EventBridge's envelope around an event."""
    return json.dumps(
        {
            "version": "0",
            "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
            "detail-type": "any",
            "source": "candor.lender",
            "account": "123456789012",
            "time": ago(0),
            "region": "us-east-1",
            "resources": [],
            "detail": event,
        }
    )
