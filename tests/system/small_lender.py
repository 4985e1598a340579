"""A synthetic lender just large enough to train on: a folder of loans for `DATA=`, the same bytes every time."""

import csv
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

EARLIER, DECIDED = "trainprevloans.csv", "trainperf.csv"
CUSTOMERS = 50
LOANS_EACH = 5
CHECKOUTS = 40
TERM = timedelta(days=15)

COLUMNS = ("customerid", "systemloanid", "creationdate", "loanamount", "totaldue", "termdays")
ENDS = ("firstduedate", "firstrepaiddate", "closeddate")


def write_small_lender(folder: Path) -> Path:
    """Half of the customers mostly pay late, which is visible in their history."""
    rng = random.Random(20170722)
    customers = [(f"c{number:03}", rng.random() < 0.5) for number in range(CUSTOMERS)]
    earlier = [loan for name, careless in customers for loan in _past(rng, name, careless)]
    decided = [_now(rng, number, *rng.choice(customers)) for number in range(CHECKOUTS)]
    earlier.append(_latest(rng))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / EARLIER, (*COLUMNS, *ENDS), earlier)
    _write(folder / DECIDED, (*COLUMNS, "good_bad_flag"), decided)
    return folder


def _past(rng: random.Random, customer: str, careless: bool) -> Iterable[dict[str, Any]]:
    created = datetime(2017, 1, 1, tzinfo=UTC) + timedelta(hours=rng.randrange(24 * 30))
    for turn in range(LOANS_EACH):
        due = created + TERM
        late = rng.random() < (0.8 if careless else 0.1)
        closed = due + timedelta(days=rng.randint(5, 12) if late else -rng.randint(0, 9), minutes=turn)
        yield {
            **_terms(rng, f"{customer}p{turn}", customer, created),
            "firstduedate": due.isoformat(),
            "firstrepaiddate": closed.isoformat(),
            "closeddate": closed.isoformat(),
        }
        created = closed + timedelta(hours=rng.randint(2, 400))


def _latest(rng: random.Random) -> dict[str, Any]:
    """A loan of the last day, without which the feed would end before the last labels were known."""
    created = datetime(2017, 7, 21, 23, tzinfo=UTC)
    closed = (created + TERM).isoformat()
    ends = {"firstduedate": closed, "firstrepaiddate": closed, "closeddate": closed}
    return {**_terms(rng, "latest", "latest", created), **ends}


def _now(rng: random.Random, number: int, customer: str, careless: bool) -> dict[str, Any]:
    created = datetime(2017, 7, 22, tzinfo=UTC) + timedelta(minutes=number * 300 + rng.randrange(300))
    bad = rng.random() < (0.8 if careless else 0.1)
    return {
        **_terms(rng, f"{customer}n{number}", customer, created),
        "good_bad_flag": "Bad" if bad else "Good",
    }


def _terms(rng: random.Random, loan: str, customer: str, created: datetime) -> dict[str, Any]:
    amount = rng.choice((10_000, 15_000, 20_000))
    return {
        "customerid": customer,
        "systemloanid": loan,
        "creationdate": created.isoformat(),
        "loanamount": amount,
        "totaldue": amount * 115 // 100,
        "termdays": TERM.days,
    }


def _write(path: Path, columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, tuple(columns))
        writer.writeheader()
        writer.writerows(rows)
