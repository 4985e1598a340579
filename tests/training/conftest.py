"""A small lender whose archive, data set and training fit a test."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from candor import (
    Count,
    Definitions,
    Entity,
    EventType,
    FeatureView,
    Integer,
    Json,
    Label,
    Max,
    Money,
    OnDemand,
    Reason,
    Text,
)
from candor.clock import DAY, format_rfc3339
from candor.contracts import HISTORY

LOADED = "2026-11-23T00:00:00Z"
T0 = 1_700_000_000_000
AS_OF = T0 + 200 * DAY

CUSTOMER = Entity("customer", "checkout.applicant.token")
STARTED = EventType(
    "checkout.started",
    [CUSTOMER],
    {"checkout_id": Text(), "total": Money(), "currency": Text(), "checkout": Json()},
)
ORIGINATED = EventType(
    "loan.originated",
    [CUSTOMER],
    {"checkout_id": Text(), "loan_id": Text(), "amount": Money(), "first_due_at": Integer(optional=True)},
)
CLOSED = EventType("loan.closed", [CUSTOMER], {"loan_id": Text(), "days_late": Integer()})


def small_lender(grace: str = "3d") -> Definitions:
    loans = FeatureView("loans", CUSTOMER, [CLOSED], [Count(), Max("days_late")], ["90d", "lifetime"])
    tries = FeatureView("tries", CUSTOMER, [STARTED], [Count()], ["7d"])
    return Definitions(
        entities=[CUSTOMER],
        events=[STARTED, ORIGINATED, CLOSED],
        views=[loans, tries],
        on_demand=[OnDemand("amount", lambda checkout, _: checkout.total)],
        label=Label("loan.originated", "loan.closed", "first_due_at", grace),
    )


REASONS = (
    Reason("R1", "Repayment of earlier loans", "repayment", ("loans.*",)),
    Reason("R2", "Recent applications and amount requested", "request", ("tries.*", "request.*")),
    Reason("N1", "No earlier loans", "no_loans", absent=("loans.*",)),
    Reason("N3", "No recent applications", "no_tries", absent=("tries.*",)),
    Reason("N2", "Records could not be read", "unread", unavailable=("loans.*", "tries.*")),
    Reason("H1", "A rule of ours", "rule"),
)


def checkout_body(number: str, customer: str, total: int) -> dict:
    return {
        "checkout_id": f"chk_{number}",
        "merchant_order_id": "order",
        "country": "US",
        "currency": "USD",
        "total": total,
        "items": [{"sku": "s", "unit_price": total, "qty": 1}],
        "applicant": {"token": customer},
        "offer": {"product": "pay_in_4", "installments": 1, "period_days": 30, "finance_charge": total // 10},
    }


def event(number: str, kind: str, at: int, customer: str, **data) -> dict:
    """One event as it travels."""
    return {
        "event_id": f"evt_{number}_{kind}",
        "type": kind,
        "occurred_at": format_rfc3339(at),
        "schema_version": 1,
        "entities": {"customer": customer, "merchant": "mer_1"},
        "data": data,
    }


def feed_until(as_of: int) -> dict:
    """The last event of a loan before `as_of`: of a loan that has no due date, and so no label."""
    return event(
        f"last_{as_of}", "loan.originated", as_of - 1, "z", checkout_id="chk_z", loan_id="loan_z", amount=1
    )


def loan(number: str, customer: str, at: int, *, days_late: int | None, total: int = 5_000) -> list[dict]:
    """A checkout, its loan of 30 days and its closing, `days_late` after the due date; None: never closed."""
    due = at + 30 * DAY
    body = checkout_body(number, customer, total)
    started = {"checkout_id": f"chk_{number}", "total": total, "currency": "USD", "checkout": body}
    originated = {
        "checkout_id": f"chk_{number}",
        "loan_id": f"loan_{number}",
        "amount": total,
        "first_due_at": due,
    }
    events = [
        event(number, "checkout.started", at, customer, **started),
        event(number, "loan.originated", at + 1, customer, **originated),
    ]
    if days_late is not None:
        closed = {"loan_id": f"loan_{number}", "days_late": days_late}
        events.append(event(number, "loan.closed", due + days_late * DAY, customer, **closed))
    return events


def write_archive(root: Path, events: list[dict], name: str = "2026/11/23/21/part-1.gz") -> Path:
    """Write loaded history in the archive's form."""
    lines = [
        {"id": "x", "source": HISTORY, "detail-type": item["type"], "time": LOADED, "detail": item}
        for item in events
    ]
    return write_lines(root / name, [{"ingestion_time": LOADED, "event": line} for line in lines])


def write_lines(path: Path, lines: Iterable[dict]) -> Path:
    """Write one object of the archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    return path


@pytest.fixture(scope="session")
def history() -> list[dict]:
    """Loans of punctual and of late customers: the past predicts the future."""
    random_ = random.Random(5)
    events: list[dict] = []
    for number in range(900):
        customer = number % 120
        late = random_.random() < (0.75 if customer % 4 == 0 else 0.05)
        at = T0 + random_.randrange(150 * DAY)
        events += loan(str(number), f"c{customer}", at, days_late=random_.randrange(4, 9) if late else -1)
    return sorted(events, key=lambda item: item["occurred_at"])
