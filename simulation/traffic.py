"""Simulated lenders' declarations, and the events that their services send."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from candor import (
    Count,
    DecayedSum,
    Definitions,
    Delayed,
    Distinct,
    Entity,
    EventType,
    FeatureView,
    Last,
    LastK,
    Max,
    Mean,
    Money,
    RateOfChange,
    Sum,
    Text,
    TimeSinceLast,
    decided_type,
    field,
    type_is,
)
from candor.clock import DAY, HOUR, MINUTE, SECOND
from candor.contracts import Event, encode_event
from candor.edge.messages import Message
from candor.features.windows import Spelling, duration
from candor.updates import Retention

CUSTOMER = Entity("customer", "checkout.applicant.token")
SHOP = Entity("shop", "merchant_id", hot=True)
FIELDS = {"amount": Money(optional=True), "kind": Text(optional=True, of=["a", "b", "c"])}
PAID = EventType("payment.succeeded", entities=[CUSTOMER, SHOP], fields=FIELDS)
FAILED = EventType("payment.failed", entities=[CUSTOMER, SHOP], fields=FIELDS)
DECIDED = decided_type([CUSTOMER, SHOP])
HORIZON = 2 * DAY
"""Retention of ids: nothing is sent or delivered again later than this."""


@dataclass(frozen=True)
class SimulatedLender:
    """Declarations, and retention of items and ids."""

    definitions: Definitions
    retention: Retention
    longest_ms: int
    expiry_ms: int


def _lender(windows: Sequence[Spelling], expires_after: str, period: str) -> SimulatedLender:
    views = [
        FeatureView(
            name=f"{entity.name}_payments",
            entity=entity,
            events=[PAID, FAILED],
            aggregations=[
                Count(),
                Count(where=type_is("payment.failed"), name="failures"),
                Count(where=~(field("amount") > 0) | (field("kind") == "a"), name="odd"),
                Sum("amount"),
                LastK(Sum("amount"), 3, over="events"),
                Mean("amount"),
                Max("amount"),
                Last("amount"),
                Distinct("kind"),
                TimeSinceLast(),
            ],
            windows=windows,
            expires_after=expires_after,
        )
        for entity in (CUSTOMER, SHOP)
    ]
    plain = [window for window in windows if isinstance(window, str)]
    finite = [window for window in plain if window != "lifetime"]
    views.append(
        FeatureView(
            name="customer_exactly",
            entity=CUSTOMER,
            events=[PAID, FAILED],
            aggregations=[Count(), Sum("amount"), Max("amount")],
            windows=finite,
            expires_after=expires_after,
            exact_windows=True,
            max_events=8,
        )
    )
    views.append(
        FeatureView(
            name="customer_checkouts",
            entity=CUSTOMER,
            events=[DECIDED],
            aggregations=[Count(), Sum("approved_amount")],
            windows=plain,
            expires_after=expires_after,
            synchronous=True,
        )
    )
    views.append(
        FeatureView(
            name="customer_trend",
            entity=CUSTOMER,
            events=[PAID, FAILED],
            aggregations=[
                RateOfChange(Count(), period),
                RateOfChange(Sum("amount"), period),
                DecayedSum("amount", half_life=period),
            ],
            windows=finite[-1:],
            expires_after=expires_after,
        )
    )
    definitions = Definitions(entities=[CUSTOMER, SHOP], events=[PAID, FAILED, DECIDED], views=views)
    longest = max((feature.window.length or 0) for feature in views[0].features)
    return SimulatedLender(definitions, Retention(HORIZON), longest, duration(expires_after))


LENDERS = (
    _lender(["1h", "24h"], "2d", period="11h"),
    _lender(["10m", "2d", Delayed("1h", delay="1h")], "3d", period="24h"),
    _lender(["1h", "7d"], "8d", period="3d"),
    _lender(["24h", "lifetime", Delayed("lifetime", delay="2h")], "20d", period="6h"),
    _lender(["168d", "672d", Delayed("168d", delay="30d")], "701d", period="168d"),
)


class Producer:
    """A service of the lender with its own clock."""

    def __init__(self, rng: random.Random, lender: SimulatedLender, max_skew_ms: int) -> None:
        self._rng = rng
        self._lender = lender
        self._max_skew_ms = max_skew_ms
        self.customers = [f"c{n}" for n in range(rng.randint(1, 3))]
        self._shops = [f"s{n}" for n in range(rng.randint(1, 2))]
        self._count = 0

    def event(self, now_ms: int) -> Event:
        """Return the next event; entities are few, so that they are hot."""
        self._count += 1
        data: dict[str, Any] = {
            "amount": self._rng.choice([None, 0, -5, self._rng.randrange(1000), 10**12]),
            "kind": self._rng.choice([None, "a", "b", "c"]),
        }
        return Event(
            f"e{self._count}",
            self._rng.choice([PAID.name, PAID.name, FAILED.name]),
            self._moment(now_ms),
            self._entities(),
            {name: value for name, value in data.items() if value is not None},
        )

    def distorted(self, void: Event) -> Event:
        """Return the void with errors of a careless sender: another amount or moment than its event."""
        if self._rng.random() < 0.5:
            return replace(void, data={**void.data, "amount": self._rng.randrange(1000)})
        moved = self._rng.choice([-1, 1]) * self._rng.choice([SECOND, HOUR, 3 * DAY])
        return replace(void, occurred_at=min(void.occurred_at + moved, void.voided_at or 0))

    def _entities(self) -> dict[str, str]:
        entities = {"customer": self._rng.choice(self.customers), "shop": self._rng.choice(self._shops)}
        if self._rng.random() < 0.2:
            del entities[self._rng.choice(["customer", "shop"])]
        return entities

    def _moment(self, now_ms: int) -> int:
        """Draw a moment: mostly now; also late, beyond every window, ahead of the clock, or exactly on an edge."""
        rng, longest = self._rng, self._lender.longest_ms
        now = now_ms + rng.randint(-self._max_skew_ms, self._max_skew_ms)
        late = -rng.randrange(2 * HOUR), -rng.randrange(2 * longest)
        ahead = rng.randrange(5 * MINUTE), rng.randrange(20 * MINUTE)
        moment = now + rng.choice([0, 0, -rng.randrange(MINUTE), *late, *ahead])
        step = rng.choice([1, 1, 1, SECOND, 10 * SECOND, MINUTE, 15 * MINUTE, HOUR, 7 * DAY])
        return moment // step * step


def message_of(event: Event, number: int) -> Message:
    """Return the event as the bus delivers it."""
    return Message(f"m{number}", _envelope(_body(event)))


def poison_of(event: Event, number: int, rng: random.Random) -> Message:
    """Return a message that can never be applied; it may carry the id of a valid event."""
    body = _body(event)
    broken: list[dict[str, Any]] = [
        {**body, "type": "payment.imagined"},
        {**body, "data": {"amount": 1.5}},
        {**body, "entities": {"loan": "x"}},
        {**body, "occurred_at": "yesterday"},
    ]
    position = rng.randrange(len(broken) + 1)
    bytes_ = b"{not json" if position == len(broken) else _envelope(broken[position])
    return Message(f"poison{number}", bytes_)


def _body(event: Event) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encode_event(event))
    return body


def _envelope(body: dict[str, Any]) -> bytes:
    return json.dumps({"detail": body}).encode()
