"""SuperLender data: real loans of a short-term lender, 2016 to July 2017, read from a given folder.

Earlier loans become events, and each is a checkout with a known end. The loans of 22–30 July 2017 are the checkouts to
decide; the end of those of 1–21 July was not known by then, so they are events without a label.
Amounts are kobo (NGN), times are taken as UTC. `approveddate` is a time-zone artefact and never used.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

from candor.clock import DAY, parse_rfc3339
from candor.contracts import MAX_AMOUNT
from demo.sources.base import (
    Event,
    SourceCheckout,
    SourceError,
    decided_earlier,
    interleave,
    make_event,
    moment,
)

AS_OF = parse_rfc3339("2017-07-22T00:00:00Z")
MERCHANT = "mer_superlender"
CURRENCY = "NGN"
MONTH_DAYS = 30

EARLIER = "trainprevloans.csv"
DECIDED = "trainperf.csv"

T = TypeVar("T")


@dataclass(frozen=True)
class LoanRecord:
    """One row. Times are ms UTC, amounts are kobo; the last four fields are None while unknown."""

    id: str
    customer: str
    created_at: int
    principal: int
    finance_charge: int
    term_days: int
    first_due_at: int | None = None
    first_paid_at: int | None = None
    closed_at: int | None = None
    bad: bool | None = None

    @property
    def installments(self) -> int:
        """Number of instalments: loans of more than a month are repaid monthly."""
        return max(1, round(self.term_days / MONTH_DAYS))

    @property
    def period_days(self) -> int:
        return self.term_days // self.installments

    @property
    def due_at(self) -> int:
        """The first due date (ms UTC); the contractual one where the data have none."""
        return self.first_due_at or self.created_at + self.period_days * DAY

    @property
    def final_due_at(self) -> int:
        return self.due_at + (self.installments - 1) * self.period_days * DAY


class SuperLender:
    """Loans of a folder as a source. Raises `SourceError` for a missing file or a malformed row."""

    name = "superlender"
    as_of = AS_OF
    merchants: tuple[str, ...] = (MERCHANT,)

    def __init__(self, folder: Path) -> None:
        earlier = _read(folder / EARLIER, _earlier)
        current = _read(folder / DECIDED, _current)
        decided = sorted((loan for loan in current if loan.created_at >= AS_OF), key=_order)
        if not decided:
            raise SourceError(
                f"{folder / DECIDED} has no loan from 22 July 2017 on; fetch the whole file again"
            )
        self._decided = decided
        self._events = sorted((event for loan in earlier + current for event in _events(loan)), key=moment)

    def history(self) -> Iterator[Event]:
        return (event for event in self._events if moment(event)[0] < AS_OF)

    def checkouts(self) -> Iterator[SourceCheckout]:
        for loan in self._decided:
            label = None if loan.bad is None else int(loan.bad)
            yield SourceCheckout(loan.id, loan.created_at, _body(loan), label, MERCHANT)

    def timeline(self) -> Iterator[Event | SourceCheckout]:
        end = self._decided[-1].created_at
        return interleave(
            (event for event in self._events if AS_OF <= moment(event)[0] <= end), self.checkouts()
        )


def _order(loan: LoanRecord) -> tuple[int, str]:
    return loan.created_at, loan.id


def _body(loan: LoanRecord) -> dict[str, Any]:
    """The checkout request behind this loan."""
    return {
        "checkout_id": f"chk_{loan.id}",
        "merchant_order_id": f"order_{loan.id}",
        "country": "NG",
        "currency": CURRENCY,
        "total": loan.principal,
        "tax_amount": 0,
        "shipping_amount": 0,
        "discount_amount": 0,
        "items": [{"sku": "cash", "category": "cash", "unit_price": loan.principal, "qty": 1}],
        "applicant": {"token": loan.customer},
        "offer": {
            "product": "short_term_loan",
            "installments": loan.installments,
            "period_days": loan.period_days,
            "finance_charge": loan.finance_charge,
        },
    }


def _events(loan: LoanRecord) -> Iterator[Event]:
    yield _event(loan, "checkout.started", loan.created_at, _started(loan))
    if loan.created_at < AS_OF:
        yield _decided(loan)
    yield _event(loan, "loan.originated", loan.created_at, _originated(loan))
    payment = {
        "loan_id": f"loan_{loan.id}",
        "installment": 1,
        "amount": (loan.principal + loan.finance_charge) // loan.installments,
        "currency": CURRENCY,
    }
    if loan.first_due_at is not None:
        yield _event(loan, "payment.due", loan.first_due_at, payment)
    if loan.first_paid_at is not None:
        late = (loan.first_paid_at - loan.due_at) // DAY
        yield _event(loan, "payment.succeeded", loan.first_paid_at, {**payment, "days_late": late})
    if loan.closed_at is not None:
        yield _event(loan, "loan.closed", loan.closed_at, _closed(loan, loan.closed_at))


def _event(loan: LoanRecord, kind: str, at: int, data: Mapping[str, Any]) -> Event:
    return make_event(f"evt_{loan.id}_{kind.replace('.', '_')}", kind, at, _named(loan), data)


def _decided(loan: LoanRecord) -> Event:
    """The approval event of a loan's checkout: every row is a loan, so it was approved."""
    event_id = f"evt_{loan.id}_checkout_decided"
    return decided_earlier(event_id, loan.created_at, _named(loan), _body(loan), "approved")


def _named(loan: LoanRecord) -> dict[str, str]:
    """The entities of a loan."""
    return {"customer": loan.customer, "merchant": MERCHANT}


def _started(loan: LoanRecord) -> dict[str, Any]:
    return {
        "checkout_id": f"chk_{loan.id}",
        "total": loan.principal,
        "currency": CURRENCY,
        "applicant": loan.customer,
        "checkout": _body(loan),
    }


def _originated(loan: LoanRecord) -> dict[str, Any]:
    return {
        "checkout_id": f"chk_{loan.id}",
        "loan_id": f"loan_{loan.id}",
        "amount": loan.principal,
        "currency": CURRENCY,
        "finance_charge": loan.finance_charge,
        "installments": loan.installments,
        "first_due_at": loan.due_at,
        "final_due_at": loan.final_due_at,
    }


def _closed(loan: LoanRecord, at: int) -> dict[str, Any]:
    return {
        "loan_id": f"loan_{loan.id}",
        "amount": loan.principal,
        "currency": CURRENCY,
        "days_late": (at - loan.final_due_at) // DAY,
    }


# ------------------------------------------------------------------------------------------------ reading


def _read(path: Path, parse: Callable[[Mapping[str, str]], LoanRecord]) -> list[LoanRecord]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return [_row(path, number, row, parse) for number, row in enumerate(csv.DictReader(lines), 2)]
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); DATA= names its folder") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} is not CSV in UTF-8; fetch the file again") from error


def _row(
    path: Path, line: int, row: Mapping[str, str], parse: Callable[[Mapping[str, str]], LoanRecord]
) -> LoanRecord:
    try:
        return parse(_whole(row))
    except KeyError as error:
        raise SourceError(f"{path} has no column {error}; fetch the file again") from error
    except (ValueError, TypeError, InvalidOperation) as error:
        raise SourceError(f"{path}, line {line}: {error}; repair the row or fetch the file again") from error


def _whole(row: Mapping[str, str]) -> Mapping[str, str]:
    if None in row or None in row.values():
        raise ValueError("the row has fewer or more values than the header has columns")
    return row


def _earlier(row: Mapping[str, str]) -> LoanRecord:
    return LoanRecord(
        **_terms(row),
        first_due_at=_time(row, "firstduedate"),
        first_paid_at=_time(row, "firstrepaiddate") if row["firstrepaiddate"] else None,
        closed_at=_time(row, "closeddate") if row["closeddate"] else None,
    )


def _current(row: Mapping[str, str]) -> LoanRecord:
    flag = row["good_bad_flag"]
    if flag not in ("Good", "Bad"):
        raise ValueError("good_bad_flag is neither Good nor Bad")
    return LoanRecord(**_terms(row), bad=flag == "Bad")


def _terms(row: Mapping[str, str]) -> dict[str, Any]:
    principal, total_due = _kobo(row, "loanamount"), _kobo(row, "totaldue")
    term_days = _column(row, "termdays", int)
    if principal <= 0 or total_due < principal or term_days <= 0:
        raise ValueError("loanamount and termdays must be positive and totaldue at least loanamount")
    if not row["systemloanid"] or not row["customerid"]:
        raise ValueError("systemloanid or customerid is empty")
    return {
        "id": row["systemloanid"],
        "customer": row["customerid"],
        "created_at": _time(row, "creationdate"),
        "principal": principal,
        "finance_charge": total_due - principal,
        "term_days": term_days,
    }


def _time(row: Mapping[str, str], name: str) -> int:
    read = _column(row, name, datetime.fromisoformat)
    return round((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1000)


def _kobo(row: Mapping[str, str], name: str) -> int:
    naira = _column(row, name, Decimal)
    if not naira.is_finite() or abs(naira) > MAX_AMOUNT // 100:
        raise ValueError(f"{name} is not an amount of money")
    amount = naira * 100
    if amount != int(amount):
        raise ValueError(f"{name} is not a whole number of kobo")
    return int(amount)


def _column(row: Mapping[str, str], name: str, read: Callable[[str], T]) -> T:
    try:
        return read(row[name])
    except (ValueError, TypeError, InvalidOperation):
        raise ValueError(f"{name} cannot be read") from None
