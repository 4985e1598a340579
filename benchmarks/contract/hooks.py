"""Schemathesis hooks for what a schema cannot express: caller, sums that add up, declared event types."""

from __future__ import annotations

import itertools
import os
from collections.abc import MutableMapping
from typing import Any

import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from candor.contracts import MAX_AMOUNT
from lender import ACCEPTANCE
from lender.events import payment_failed

_RUN = os.urandom(6).hex()
_NUMBERS = itertools.count()
_PAYMENT = {"loan_id": "loan_1", "amount": 2_500, "currency": "USD"}


@schemathesis.auth().apply_to(path_regex="^/v1/decisions")
class MerchantKey:
    """The merchant's key as a bearer token."""

    def get(self, case: schemathesis.Case[Any], context: schemathesis.AuthContext) -> str:
        return os.environ["CONTRACT_KEY"]

    def set(self, case: schemathesis.Case[Any], data: str, context: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.auth().apply_to(path_regex="^/(v1/events|internal/)")
class Signature:
    """Signature Version 4, of the request's place alone: the local gateway looks at its form."""

    def get(self, case: schemathesis.Case[Any], context: schemathesis.AuthContext) -> dict[str, str]:
        request = AWSRequest(case.method, "http://localhost/")
        SigV4Auth(Credentials("local", "local"), "execute-api", "us-east-1").add_auth(request)
        return {name: request.headers[name] for name in ("Authorization", "X-Amz-Date")}

    def set(
        self, case: schemathesis.Case[Any], data: dict[str, str], context: schemathesis.AuthContext
    ) -> None:
        case.headers.update(data)


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]
) -> None:
    """Mend a request that fits its schema, so that it must be accepted; leave all others as they were made."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    body: Any = _integers(case.body)
    case.body = body
    if case.method == "GET" and "id" in case.path_parameters:
        # Every other id is of a decision that is there.
        if next(_NUMBERS) % 2:
            case.path_parameters["id"] = os.environ["CONTRACT_DECISION"]
    elif case.path == "/v1/decisions":
        _mend_headers(case.headers)
        _mend_checkout(body)
        _accept(body)
    else:
        _mend_events(body)


def _integers(value: Any) -> Any:
    """JSON Schema takes 57.0 for an integer; we take no number with a point."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _integers(member) for name, member in value.items()}
    return [_integers(member) for member in value] if isinstance(value, list) else value


def _accept(body: Any) -> None:
    """In a currency and country, and of a product, that the lender accepts: the schema knows the standards alone."""
    if isinstance(body, dict):
        number = next(_NUMBERS)
        body["currency"], body["country"], body["offer"]["product"] = (
            sorted(accepted)[number % len(accepted)]
            for accepted in (ACCEPTANCE.currencies, ACCEPTANCE.countries, ACCEPTANCE.products)
        )


def _mend_headers(headers: MutableMapping[str, str]) -> None:
    headers["Idempotency-Key"] = f"{_RUN}-{next(_NUMBERS)}"  # else another request's, at times
    if "Candor-Replay-At" in headers:
        headers["Candor-Replay-At"] = "2026-11-01T12:00:00Z"


def _mend_checkout(body: Any) -> None:
    if not isinstance(body, dict):
        return
    if body.get("occurred_at"):
        body["occurred_at"] = "2026-10-01T12:00:00Z"
    goods = sum(item["unit_price"] * item["qty"] for item in body["items"])
    total = goods + body.get("tax_amount", 0) + body.get("shipping_amount", 0)
    body["discount_amount"] = max(0, min(body.get("discount_amount", 0), total - 1))
    total -= body["discount_amount"]
    if 1 <= total <= MAX_AMOUNT:
        body["total"] = total
    else:
        body["items"] = [{**body["items"][0], "unit_price": body["total"], "qty": 1}]
        body |= {"tax_amount": 0, "shipping_amount": 0, "discount_amount": 0}


def _undeclared(data: dict[str, Any]) -> dict[str, Any]:
    """Without fields that the event's type declares: the schema leaves their kinds to the lender."""
    return {name: value for name, value in data.items() if name not in payment_failed.fields}


def _mend_events(body: Any) -> None:
    if not isinstance(body, dict):
        return
    for event in body["events"]:
        event |= {
            "event_id": f"{_RUN}-{next(_NUMBERS)}",
            "type": "payment.failed",
            "occurred_at": "2026-11-01T12:00:00Z",
            "entities": {"customer": f"contract-{_RUN}"},
            "data": {**_undeclared(event["data"]), **_PAYMENT},
        }
        if event.get("voided_at"):
            event["voided_at"] = "2026-11-01T12:00:01Z"
