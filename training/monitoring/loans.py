"""What became of the loans that checkouts led to, as far as the archive tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from candor.contracts import Event
from candor.features.event_types import DECIDED
from candor.features.labels import Label
from history.asof.events import known_before
from training.dataset.labels import final_label, loan_book


@dataclass(frozen=True)
class LoanEnd:
    """A loan's beginning, the moment when its label is known (ms UTC), and whether it was closed too late or never.

    `bad` says nothing before `known_at`.
    """

    began: int
    known_at: int
    bad: bool


@dataclass
class LoanEnds:
    """Loans by the checkout that they came from. `newest` is the moment of the newest event that the lender sent (ms): what came later is not known.

    Loans without a due date are counted in `undated`, for nobody can say when they are late.
    """

    ends: dict[str, LoanEnd] = field(default_factory=dict)
    newest: int = 0
    undated: int = 0


def loan_ends(label: Label, events: Iterable[Event], until: int) -> LoanEnds:
    """The ends of all loans by what was known before `until` (ms UTC), by the label's own rule of training."""
    known = known_before(events, until)
    book = loan_book(label, known, until)
    # `DECIDED` is the platform's own: it flows while the lender's services may not.
    sent = (event.occurred_at for event in known if event.type != DECIDED)
    result = LoanEnds(newest=max(sent, default=0))
    for checkout_id, loan in book.loans.items():
        end = final_label(label, loan, book)
        if end is None:
            result.undated += 1
        else:
            result.ends[checkout_id] = LoanEnd(loan.occurred_at, known_at=end.known_at, bad=end.bad)
    return result
