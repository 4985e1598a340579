"""Outcomes of the loans that checkouts led to, as far as the archive knows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from candor.contracts import Event
from candor.features.labels import Label
from history.asof.events import known_before
from training.dataset.labels import final_label, loan_book, observed_until


@dataclass(frozen=True)
class LoanEnd:
    """Origination of a loan and the moment its label is known (ms UTC); `bad` if it was closed too late or never.

    `bad` has no meaning before `known_at`.
    """

    began: int
    known_at: int
    bad: bool


@dataclass
class LoanEnds:
    """Loans by their checkout. `newest` is the moment (ms UTC) of the newest event of a loan: what ends later is unknown.

    `undated` counts loans without a due date, which can never be late.
    """

    ends: dict[str, LoanEnd] = field(default_factory=dict)
    newest: int = 0
    undated: int = 0


def loan_ends(label: Label, events: Iterable[Event], until: int) -> LoanEnds:
    """Ends of all loans by what was known before `until` (ms UTC), by the label's rule used in training."""
    known = known_before(events, until)
    book = loan_book(label, known, until)
    result = LoanEnds(newest=observed_until(label, known, until))
    for checkout_id, loan in book.loans.items():
        end = final_label(label, loan, book)
        if end is None:
            result.undated += 1
        else:
            result.ends[checkout_id] = LoanEnd(loan.occurred_at, known_at=end.known_at, bad=end.bad)
    return result
