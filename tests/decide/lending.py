"""A small lender for the tests of a decision: three entities, one table, one trained champion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from candor import (
    Count,
    Definitions,
    Entity,
    EventType,
    FeatureView,
    Integer,
    Max,
    Mean,
    Money,
    OnDemand,
    Party,
    Profile,
    Reason,
    Sum,
    Variance,
)
from candor.champion import Champions
from candor.clock import DAY, Clock, Deadline, FixedClock
from candor.contracts import Application, Event, parse_checkout
from candor.decide import Answer, Attempt, Decider
from candor.errors import CandorError
from candor.ingest import ingest
from candor.model.bundle import Bundle
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import DecisionStore
from candor.updates import Retention
from tests.decision_tables import row, table
from tests.trained import train

NOW = 1_800_000_000_000
RETENTION_DAYS = 90
RETENTION = Retention(event_ids=20 * DAY)

PROFILE = Profile(
    "US-federal/test", Party("Test Lender", "1 Test Street"), Party("Test Agency", "2 Test Street")
)

customer = Entity("customer", "checkout.applicant.token")
merchant = Entity("merchant", "merchant_id")
device = Entity("device", "checkout.device.fingerprint")
paid = EventType(
    "payment.succeeded", [customer, merchant], {"amount": Money(), "days_late": Integer(optional=True)}
)
failed = EventType("payment.failed", [customer, merchant])
started = EventType("checkout.started", [device])

DEFINITIONS = Definitions(
    entities=[customer, merchant, device],
    events=[paid, failed, started],
    views=[
        FeatureView(
            "paid",
            customer,
            [paid],
            [Mean("amount"), Variance("amount"), Max("days_late")],
            ["30d", "lifetime"],
        ),
        FeatureView("failed", customer, [failed], [Count()], ["7d"]),
        FeatureView("sales", merchant, [paid], [Sum("amount")], ["24h"]),
        FeatureView("device", device, [started], [Count()], ["1h"]),
    ],
    on_demand=[
        OnDemand("amount", lambda checkout, features: checkout.total),
        OnDemand("third", lambda checkout, features: checkout.total / 3 if checkout.total % 2 else None),
    ],
)
REASONS = (
    Reason("H1", "Payments were refused", "refused"),
    Reason("H2", "Amount of this purchase", "limit"),
    Reason("R1", "Earlier payments", "payments", ("paid.*",)),
    Reason("R2", "Failed payments", "failures", ("failed.*",)),
    Reason("R3", "Shop", "shop", ("sales.*",)),
    Reason("R4", "Device", "device", ("device.*",)),
    Reason("N1", "No payments yet", "no_payments", absent=("paid.*",)),
    Reason(
        "N3",
        "No record of the customer, the shop or the device",
        "no_record",
        absent=("failed.*", "sales.*", "device.*"),
    ),
    Reason(
        "N2", "Records could not be read", "unread", unavailable=("paid.*", "failed.*", "sales.*", "device.*")
    ),
    Reason("R5", "Amount requested", "amount", ("request.*",)),
)
POLICY_CODES = {"H1", "H2"}
MODEL_CODES = {"R1", "R2", "R3", "R4", "R5", "N1", "N2", "N3"}
POLICY = table(
    [
        row("failures", reason="H1", failures=">= 3"),
        row("limit", reason="H2", amount="> 90000"),
        row("device", "action_required", devices=">= 5"),
        row("unverified", "action_required", degraded="true", amount="> 5000"),
        row("score", component="model", score="> cutoff"),
        row("broken", "maybe", amount="77777"),
    ],
    {
        "failures": 'features["failed.count.7d"]',
        "devices": 'features["device.count.1h"]',
        "amount": "amount",
        "degraded": "degraded",
        "score": "score",
    },
)
SAFE, RISKY = 4_000, 80_000
"""Amounts that the trained model approves and declines for every applicant."""


@lru_cache(maxsize=4)
def champion(seed: int = 7) -> Bundle:
    return train(DEFINITIONS, POLICY, REASONS, {"request.amount": 100_000.0}, seed)


def body(total: int = SAFE, token: str = "ann", **changes: Any) -> dict[str, Any]:
    """A checkout as the merchant posts it."""
    return {
        "checkout_id": "chk_1",
        "merchant_order_id": "A-1",
        "country": "US",
        "currency": "USD",
        "total": total,
        "items": [{"sku": "SKU-1", "unit_price": total, "qty": 1}],
        "applicant": {"token": token},
        "offer": {"product": "pay_in_4", "installments": 4, "period_days": 14},
        "device": {"fingerprint": "dev_1"},
    } | changes


def attempt(
    key: str = "k1",
    *,
    merchant_id: str = "mer_1",
    livemode: bool = False,
    replay_at: int | None = None,
    **checkout: Any,
) -> Attempt:
    parsed = parse_checkout(json.dumps(body(**checkout)).encode())
    return Attempt(Application(parsed, merchant_id, livemode), key, replay_at)


def happened(event_id: str, at: int, kind: str = "payment.failed", token: str = "ann", **data: Any) -> Event:
    return Event(event_id, kind, at, {"customer": token, "merchant": "mer_1", "device": "dev_1"}, data)


def take_in(features: MemoryFeatureStore, *events: Event) -> None:
    outcome = ingest(events, DEFINITIONS, features, FixedClock(NOW + DAY), RETENTION)
    assert not outcome.refused
    assert not outcome.failed


class Shelf:
    """Bundles by name; records loads, their time limits, and failures."""

    def __init__(self, *bundles: Bundle) -> None:
        self.files: dict[str, bytes | Exception] = {bundle.sha: bundle.to_bytes() for bundle in bundles}
        self.taken: list[str] = []
        self.timeouts: list[float] = []
        self.failures: list[tuple[str, CandorError]] = []

    def __call__(self, sha: str, timeout_s: float) -> bytes:
        self.taken.append(sha)
        self.timeouts.append(timeout_s)
        data = self.files[sha]
        if isinstance(data, Exception):
            raise data
        return data

    def failed(self, sha: str, error: CandorError) -> None:
        self.failures.append((sha, error))


def decider(
    store: DecisionStore, shelf: Shelf | None = None, clock: Clock | None = None, **changes: Any
) -> Decider:
    shelf, clock = shelf or Shelf(champion()), clock or FixedClock(NOW)
    settings: dict[str, Any] = {
        "definitions": DEFINITIONS,
        "store": store,
        "champions": Champions(DEFINITIONS, shelf, clock, shelf.failed),
        "fallback_policy": POLICY,
        "regulation_profile": PROFILE,
        "id_key": b"secret",
        "clock": clock,
        "retention_days": RETENTION_DAYS,
        "retention": RETENTION,
    }
    return Decider(**(settings | changes))


class Till:
    """A scorer over a store, with handles for tests."""

    def __init__(
        self, store: MemoryDecisionStore | None = None, shelf: Shelf | None = None, clock: Clock | None = None
    ):
        self.store = store or MemoryDecisionStore(MemoryFeatureStore(), champion().sha)
        self.shelf = shelf or Shelf(champion())
        self.clock = clock or FixedClock(NOW)
        self.decider = decider(self.store, self.shelf, clock=self.clock)

    def decide(self, key: str = "k1", **changes: Any) -> Answer:
        return self.decider.decide(attempt(key, **changes), Deadline(60.0))

    def record(self, key: str = "k1", **changes: Any) -> Mapping[str, Any]:
        """Decide, and read the record as JSON."""
        decision = self.decide(key, **changes).decision
        assert decision is not None
        record: Mapping[str, Any] = json.loads(self.store.decisions[decision.id].record)
        return record
