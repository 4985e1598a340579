"""Which checkouts turned bad, since when that was known, and how far behind each loan was month by month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from candor.clock import DAY
from candor.contracts import Application, Event, parse_checkout
from candor.errors import DefinitionError, InvalidInput
from candor.features.definitions import Definitions
from candor.features.labels import FINAL_DUE, Label, Outcome
from history.asof.events import Question, known_before

CHECKOUT = "checkout.started"

MONTH: Final = 30 * DAY
"""Months on book are counted in thirty days, so that every loan's are of one length."""

Moment = tuple[int, str]
"""(moment in ms, event id): of several copies or attempts the earliest counts."""


@dataclass(frozen=True)
class LabelledCheckout:
    """A checkout with its end: `bad`, used from `known_at` (ms UTC) on."""

    question: Question
    bad: bool
    known_at: int


class LoanLabel(NamedTuple):
    """How a loan turned out, and since when (ms UTC) that may be used: before, `bad` says nothing."""

    bad: bool
    known_at: int


@dataclass(frozen=True)
class MonthStatus:
    """How many days behind a loan's oldest unpaid instalment was, `month` × 30 days after its origination: at `at` (ms UTC)."""

    row_id: str
    loan_id: str
    month: int
    at: int
    days_past_due: int


@dataclass
class Instalment:
    """When it fell due first, and what was paid or taken back, by moment."""

    due: int | None = None
    turns: set[tuple[int, str, bool]] = field(default_factory=set)

    def unpaid_at(self, moment: int) -> bool:
        """Due by then, and its latest turn was no payment."""
        if self.due is None or self.due > moment:
            return False
        turns = sorted(turn for turn in self.turns if turn[0] <= moment)
        return not turns or not turns[-1][2]


@dataclass
class LoanBook:
    """The events that decide labels, by what they are about; of several copies or attempts the earliest."""

    checkouts: dict[str, Event] = field(default_factory=dict)
    loans: dict[str, Event] = field(default_factory=dict)
    closings: dict[str, Event] = field(default_factory=dict)
    instalments: defaultdict[str, defaultdict[int, Instalment]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Instalment))
    )


def label_of(definitions: Definitions) -> Label:
    """The declared label. Raises DefinitionError if there is none."""
    if definitions.label is None:
        raise DefinitionError("the definitions have no label: declare Label(...) to train")
    return definitions.label


def deciding_types(label: Label) -> frozenset[str]:
    """Types of the events that any of its labels looks at."""
    instalments = label.instalments
    of_instalments = (instalments.due, instalments.paid, instalments.reversed) if instalments else ()
    return frozenset({CHECKOUT, label.origin, label.closed, *(name for name in of_instalments if name)})


def labelled_checkouts(
    definitions: Definitions, events: Iterable[Event], as_of: int, name: str = FINAL_DUE
) -> tuple[list[LabelledCheckout], int]:
    """Checkouts whose label was mature before `as_of` (ms), by moment; and how many bodies could not be read.

    Only events that were known before `as_of` decide. The label's own, `final_due`: bad if the loan was not closed by its due
    date plus grace; others as `Outcome` says. Good and bad mature together: counting a good end as soon as it happens would
    fill the latest weeks with early payers.
    Raises DefinitionError if the definitions declare no label, or none of this name.
    """
    label = label_of(definitions)
    outcome = label.outcome(name)
    book = loan_book(label, events, as_of)
    labelled, unreadable = [], 0
    for checkout_id, started in book.checkouts.items():
        loan = book.loans.get(checkout_id)
        end = _loan_label(label, outcome, loan, book) if loan else None
        if end is None or end.known_at >= as_of:
            continue
        try:
            checkout = parse_checkout(msgspec.json.encode(started.data["checkout"]))
        except InvalidInput:
            unreadable += 1
            continue
        application = Application(checkout, started.entities.get("merchant", ""))
        labelled.append(LabelledCheckout(Question(checkout_id, started.occurred_at, application), *end))
    return sorted(labelled, key=lambda row: (row.question.q, row.question.row_id)), unreadable


def monthly_status(definitions: Definitions, events: Iterable[Event], as_of: int) -> Iterator[MonthStatus]:
    """Every loan's months that ended before `as_of` (ms), up to its closing or to the last month in which it was behind or due."""
    label = label_of(definitions)
    book = loan_book(label, events, as_of)
    for checkout_id, loan in sorted(book.loans.items()):
        loan_id = _loan_id(loan)
        closing = book.closings.get(loan_id)
        instalments = book.instalments[loan_id]
        month = 1
        while (at := loan.occurred_at + month * MONTH) < as_of:
            behind = [
                at - instalment.due
                for instalment in instalments.values()
                if instalment.due is not None and instalment.unpaid_at(at)
            ]
            closed = closing is not None and closing.occurred_at <= at
            yield MonthStatus(checkout_id, loan_id, month, at, 0 if closed else max(behind, default=0) // DAY)
            if closed:
                break
            month += 1


def loan_book(label: Label, events: Iterable[Event], as_of: int) -> LoanBook:
    """The book that events tell as far as it was known before `as_of` (ms), without what was known to be voided."""
    book = LoanBook()
    targets = {
        CHECKOUT: (book.checkouts, "checkout_id"),
        label.origin: (book.loans, "checkout_id"),
        label.closed: (book.closings, "loan_id"),
    }
    known_events = known_before(events, as_of)
    gone = {event.id for event in known_events if event.voided_at is not None}
    for event in known_events:
        if event.voided_at is not None or event.id in gone:
            continue
        _take_instalment(label, book, event)
        target, key = targets.get(event.type, (None, ""))
        about = event.data.get(key)
        if target is None or about is None:
            continue
        known = target.setdefault(about, event)
        if (event.occurred_at, event.id) < (known.occurred_at, known.id):
            target[about] = event
    return book


def _take_instalment(label: Label, book: LoanBook, event: Event) -> None:
    says = label.instalments
    if says is None or event.type not in (says.due, says.paid, says.reversed):
        return
    loan_id, number = event.data.get("loan_id"), event.data.get(says.number)
    if loan_id is None or number is None:
        return
    instalment = book.instalments[loan_id][number]
    if event.type == says.due:
        instalment.due = (
            event.occurred_at if instalment.due is None else min(instalment.due, event.occurred_at)
        )
    else:
        instalment.turns.add((event.occurred_at, event.id, event.type == says.paid))


def final_label(label: Label, loan: Event, book: LoanBook) -> LoanLabel | None:
    """The end of a loan by its final due date: bad if it was not closed by then plus grace. None for one without a due date."""
    due = loan.data.get(label.due_field)
    if due is None:
        return None
    closing = book.closings.get(_loan_id(loan))
    last_moment = int(due) + label.grace_ms
    return LoanLabel(closing is None or closing.occurred_at > last_moment, last_moment)


def _loan_label(label: Label, outcome: Outcome | None, loan: Event, book: LoanBook) -> LoanLabel | None:
    if outcome is None:
        return final_label(label, loan, book)
    loan_id = _loan_id(loan)
    return _watched(
        outcome, loan, book.closings.get(loan_id), list(book.instalments.get(loan_id, {}).items())
    )


def _loan_id(loan: Event) -> str:
    return str(loan.data.get("loan_id", ""))


def _watched(
    outcome: Outcome, loan: Event, closing: Event | None, instalments: list[tuple[int, Instalment]]
) -> LoanLabel | None:
    """None for a loan of which no instalment has fallen due, where the first one decides."""
    dues = sorted(
        (instalment.due, number) for number, instalment in instalments if instalment.due is not None
    )
    if outcome.within_ms is None:
        if not dues:
            return None
        dues, mature = dues[:1], dues[0][0] + outcome.past_due_ms
    else:
        mature = loan.occurred_at + outcome.within_ms
    by_number = dict(instalments)
    ends = [(due + outcome.past_due_ms, number) for due, number in dues]
    closed = closing.occurred_at if closing else None
    bad = any(
        end <= mature and (closed is None or closed > end) and by_number[number].unpaid_at(end)
        for end, number in ends
    )
    return LoanLabel(bad, mature)
