"""The decision record, its id, the merchant's answer and the `checkout.decided` event."""

from __future__ import annotations

import math
from array import array

import msgspec

from candor.clock import HOUR, format_rfc3339
from candor.contracts import Application, Checkout, Event
from candor.features.definitions import Definitions
from candor.features.event_types import DECIDED
from candor.features.vector import FeatureVector
from candor.hmac_key import hmac_key
from candor.regulation import AdverseAction
from candor.terms import Terms, is_counter_offer

ROUTE = "POST /v1/decisions"
VALID_FOR = HOUR
"""Validity (ms) of an approval."""

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
_PLACES = range(120, -1, -10)
_RECORD = msgspec.json.Encoder(enc_hook=array.tolist)


class Decision(msgspec.Struct, frozen=True):
    """The decision record: all that replay needs. Moments in ms UTC.

    `decided_at` is the scorer's clock, independent of `q`; None in records that predate it.
    `bundle` is None if none could serve; `policy` is the hash of the bundle's table, or of the fallback's.
    `component` is the one that declined, or that limited an approval; `terms` are those granted.
    `unseen`: a synchronous item could not be read, so nothing was granted.
    `attempt` is random: it tells a resent write's own record from that of an equal request at the same moment.
    """

    id: str
    merchant_id: str
    livemode: bool
    q: int
    replay_clock: bool
    request: Checkout
    vector: FeatureVector
    definition_hash: str
    bundle: str | None
    policy: str
    score: float | None
    cutoff: float | None
    outcome: str
    component: str | None
    rules: list[str]
    reasons: list[str]
    degraded: bool
    regulation_profile: str
    attempt: str
    propensity: float = 1.0
    decided_at: int | None = None
    unseen: bool = False
    terms: Terms | None = None
    adverse_action: AdverseAction | None = None


def to_record(decision: Decision) -> bytes:
    """Decision → stored JSON, in which NaN is null."""
    return _RECORD.encode(decision)


def parse_record(record: bytes) -> Decision:
    """Stored JSON → Decision; a null value is NaN."""
    members = msgspec.json.decode(record)
    vector = members["vector"]
    vector["values"] = array("d", [math.nan if value is None else value for value in vector["values"]])
    return msgspec.convert(members, Decision)


def decision_id(key: bytes, merchant_id: str, idempotency_key: str, *, livemode: bool) -> str:
    """Keyed hash (HMAC-SHA-256, 130 bits of it) of merchant, mode, route and Idempotency-Key.

    Test and live keys give different ids: a test request must not answer a later live one.
    """
    route = ROUTE if livemode else f"test {ROUTE}"
    message = f"{merchant_id}\0{route}\0{idempotency_key}".encode()
    bits = int.from_bytes(hmac_key(key).digest(message)[:17]) >> 6
    return "dec_" + "".join([_PAIRS[bits >> place & 1023] for place in _PLACES])


def decided(decision: Decision, definitions: Definitions) -> Event:
    """The `checkout.decided` event: committed to synchronous views with the record, and published on the bus."""
    checkout = decision.request
    application = Application(checkout, decision.merchant_id, decision.livemode)
    named = {name: entity.key_of(application) for name, entity in definitions.entities.items()}
    data = {
        "checkout_id": checkout.checkout_id,
        "merchant": decision.merchant_id,
        "total": checkout.total,
        "approved_amount": approved_amount(decision),
        "currency": checkout.currency,
        "outcome": decision.outcome,
    }
    entities = {name: key for name, key in named.items() if key is not None}
    return Event(decision.id, DECIDED, decision.q, entities, data)


def approved_amount(decision: Decision) -> int:
    """Approved amount in minor units; 0 unless approved."""
    if decision.outcome != "approved":
        return 0
    return decision.terms.amount if decision.terms else decision.request.total


def answer(decision: Decision) -> bytes:
    """Response body for the merchant, without score, reasons and features; `terms` are those of an approval."""
    checkout = decision.request
    approved = decision.outcome == "approved"
    terms = decision.terms if approved else None
    return msgspec.json.encode(
        {
            "id": decision.id,
            "object": "decision",
            "checkout_id": checkout.checkout_id,
            "merchant_order_id": checkout.merchant_order_id,
            "outcome": decision.outcome,
            "counter_offer": terms is not None and is_counter_offer(terms, checkout),
            "approved_amount_max": approved_amount(decision),
            "currency": checkout.currency,
            "expires_at": format_rfc3339(decision.q + VALID_FOR) if approved else None,
            "terms": terms
            and {
                "product": checkout.offer.product,
                "installments": terms.installments,
                "finance_charge": terms.finance_charge,
            },
            "next_action": None,
            "livemode": decision.livemode,
        }
    )
