"""Labels of checkouts with the moment they were known, and the days past due of each loan month by month."""

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
from history.asof.events import PointInTimeQuery, known_before

CHECKOUT = "checkout.started"

MONTH: Final = 30 * DAY
"""A month on book: thirty days, so that all have one length."""

Moment = tuple[int, str]
"""(moment in ms, event id): the earliest of several copies or attempts counts."""


@dataclass(frozen=True)
class LabelledCheckout:
    """A checkout with its label `bad`, which may be used from `known_at` (ms UTC) on."""

    question: PointInTimeQuery
    bad: bool
    known_at: int


class LoanLabel(NamedTuple):
    """Label of a loan; `bad` has no meaning before `known_at` (ms UTC)."""

    bad: bool
    known_at: int


@dataclass(frozen=True)
class MonthStatus:
    """Days past due of a loan's oldest unpaid instalment at `at` (ms UTC), `month` × 30 days after origination."""

    row_id: str
    loan_id: str
    month: int
    at: int
    days_past_due: int


@dataclass
class Instalment:
    """One instalment: its first due moment (ms UTC), and its payments and reversals as (ms UTC, event id, paid)."""

    due: int | None = None
    postings: set[tuple[int, str, bool]] = field(default_factory=set)

    def unpaid_at(self, moment: int) -> bool:
        """True if it was due at `moment` (ms UTC) and its latest posting was not a payment."""
        if self.due is None or self.due > moment:
            return False
        postings = sorted(posting for posting in self.postings if posting[0] <= moment)
        return not postings or not postings[-1][2]


@dataclass
class LoanBook:
    """Events that decide labels, by checkout, loan and instalment; the earliest of several copies or attempts."""

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
    """Types of the events that the label and its outcomes depend on."""
    instalments = label.instalments
    of_instalments = (instalments.due, instalments.paid, instalments.reversed) if instalments else ()
    return frozenset({CHECKOUT, label.origin, label.closed, *(name for name in of_instalments if name)})


def feed_types(label: Label) -> frozenset[str]:
    """Types of the events that tell of a loan: without newer ones, nothing is known of an open loan."""
    return deciding_types(label) - {CHECKOUT}


def observed_until(label: Label, events: Iterable[Event], as_of: int) -> int:
    """Moment (ms UTC) of the newest event of a loan that was known before `as_of`; 0 if there is none."""
    types = feed_types(label)
    return max((event.occurred_at for event in known_before(events, as_of) if event.type in types), default=0)


def labelled_checkouts(
    definitions: Definitions, events: Iterable[Event], as_of: int, name: str = FINAL_DUE
) -> tuple[list[LabelledCheckout], int]:
    """Checkouts whose label was mature before `as_of` (ms), oldest first, and the number of unreadable bodies.

    Only events that were known before `as_of` decide, and none counts that matures after the newest of them: where the
    feed stopped, an open loan is neither good nor bad (`observed_until`). `final_due` is bad if the loan was not closed by its due date
    plus grace; `Outcome` defines the others. Good and bad mature together: counting a good loan as soon as it closes
    would fill the latest weeks with early payers.
    Raises DefinitionError if the definitions declare no label, or none of this name.
    """
    label = label_of(definitions)
    outcome = label.outcome(name)
    history = list(events)
    book, until = loan_book(label, history, as_of), observed_until(label, history, as_of)
    labelled, unreadable = [], 0
    for checkout_id, started in book.checkouts.items():
        loan = book.loans.get(checkout_id)
        end = _loan_label(label, outcome, loan, book) if loan else None
        if end is None or end.known_at >= as_of or end.known_at > until:
            continue
        try:
            checkout = parse_checkout(msgspec.json.encode(started.data["checkout"]))
        except InvalidInput:
            unreadable += 1
            continue
        application = Application(checkout, started.entities.get("merchant", ""))
        labelled.append(
            LabelledCheckout(PointInTimeQuery(checkout_id, started.occurred_at, application), *end)
        )
    return sorted(labelled, key=lambda row: (row.question.q, row.question.row_id)), unreadable


def monthly_status(definitions: Definitions, events: Iterable[Event], as_of: int) -> Iterator[MonthStatus]:
    """Status of every loan at the end of each month before `as_of` (ms), up to its closing."""
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
    """Events that were known before `as_of` (ms), by what they are about, without those known to be voided."""
    book = LoanBook()
    targets = {
        CHECKOUT: (book.checkouts, "checkout_id"),
        label.origin: (book.loans, "checkout_id"),
        label.closed: (book.closings, "loan_id"),
    }
    known_events = known_before(events, as_of)
    voided = {event.id for event in known_events if event.voided_at is not None}
    for event in known_events:
        if event.voided_at is not None or event.id in voided:
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
    names = label.instalments
    if names is None or event.type not in (names.due, names.paid, names.reversed):
        return
    loan_id, number = event.data.get("loan_id"), event.data.get(names.number)
    if loan_id is None or number is None:
        return
    instalment = book.instalments[loan_id][number]
    if event.type == names.due:
        instalment.due = (
            event.occurred_at if instalment.due is None else min(instalment.due, event.occurred_at)
        )
    else:
        instalment.postings.add((event.occurred_at, event.id, event.type == names.paid))


def final_label(label: Label, loan: Event, book: LoanBook) -> LoanLabel | None:
    """Label by the final due date: bad if the loan was not closed by then plus grace. None without a due date."""
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
    """Label by instalments; None where the first instalment decides and none has fallen due."""
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
