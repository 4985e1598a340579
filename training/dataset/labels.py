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
from history.asof.events import PointInTimeQuery, known_before

CHECKOUT = "checkout.started"

MONTH: Final = 30 * DAY
"""Months on book are counted in thirty days, so that every loan's are of one length."""

Moment = tuple[int, str]
"""(moment in ms, event id): of several copies or attempts the earliest counts."""


@dataclass(frozen=True)
class Labelled:
    """A checkout with its end: `bad`, used from `known_at` (ms UTC) on."""

    question: PointInTimeQuery
    bad: bool
    known_at: int


class End(NamedTuple):
    """How a loan turned out, and since when (ms UTC) that may be used: before, `bad` says nothing."""

    bad: bool
    known_at: int


@dataclass(frozen=True)
class Month:
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
class Story:
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
    told = label.instalments
    of_instalments = (told.due, told.paid, told.reversed) if told else ()
    return frozenset({CHECKOUT, label.origin, label.closed, *(name for name in of_instalments if name)})


def labelled_checkouts(
    definitions: Definitions, events: Iterable[Event], as_of: int, name: str = FINAL_DUE
) -> tuple[list[Labelled], int]:
    """Checkouts whose label was mature before `as_of` (ms), by moment; and how many bodies could not be read.

    Only events that were known before `as_of` decide. The label's own, `final_due`: bad if the loan was not closed by its due
    date plus grace; others as `Outcome` says. Good and bad mature together: counting a good end as soon as it happens would
    fill the latest weeks with early payers.
    Raises DefinitionError if the definitions declare no label, or none of this name.
    """
    label = label_of(definitions)
    outcome = label.outcome(name)
    story = told(label, events, as_of)
    found, unreadable = [], 0
    for checkout_id, started in story.checkouts.items():
        loan = story.loans.get(checkout_id)
        end = _end(label, outcome, loan, story) if loan else None
        if end is None or end.known_at >= as_of:
            continue
        try:
            checkout = parse_checkout(msgspec.json.encode(started.data["checkout"]))
        except InvalidInput:
            unreadable += 1
            continue
        application = Application(checkout, started.entities.get("merchant", ""))
        found.append(Labelled(PointInTimeQuery(checkout_id, started.occurred_at, application), *end))
    return sorted(found, key=lambda one: (one.question.q, one.question.row_id)), unreadable


def monthly(definitions: Definitions, events: Iterable[Event], as_of: int) -> Iterator[Month]:
    """Every loan's months that ended before `as_of` (ms), up to its closing or to the last month in which it was behind or due."""
    label = label_of(definitions)
    story = told(label, events, as_of)
    for checkout_id, loan in sorted(story.loans.items()):
        loan_id = _loan_id(loan)
        closing = story.closings.get(loan_id)
        mine = story.instalments[loan_id]
        month = 1
        while (at := loan.occurred_at + month * MONTH) < as_of:
            behind = [at - one.due for one in mine.values() if one.due is not None and one.unpaid_at(at)]
            closed = closing is not None and closing.occurred_at <= at
            yield Month(checkout_id, loan_id, month, at, 0 if closed else max(behind, default=0) // DAY)
            if closed:
                break
            month += 1


def told(label: Label, events: Iterable[Event], as_of: int) -> Story:
    """The story that events tell as far as it was known before `as_of` (ms), without what was known to be voided."""
    story = Story()
    places = {
        CHECKOUT: (story.checkouts, "checkout_id"),
        label.origin: (story.loans, "checkout_id"),
        label.closed: (story.closings, "loan_id"),
    }
    found = known_before(events, as_of)
    gone = {event.id for event in found if event.voided_at is not None}
    for event in found:
        if event.voided_at is not None or event.id in gone:
            continue
        _take_instalment(label, story, event)
        place, key = places.get(event.type, (None, ""))
        about = event.data.get(key)
        if place is None or about is None:
            continue
        known = place.setdefault(about, event)
        if (event.occurred_at, event.id) < (known.occurred_at, known.id):
            place[about] = event
    return story


def _take_instalment(label: Label, story: Story, event: Event) -> None:
    says = label.instalments
    if says is None or event.type not in (says.due, says.paid, says.reversed):
        return
    loan_id, number = event.data.get("loan_id"), event.data.get(says.number)
    if loan_id is None or number is None:
        return
    one = story.instalments[loan_id][number]
    if event.type == says.due:
        one.due = event.occurred_at if one.due is None else min(one.due, event.occurred_at)
    else:
        one.turns.add((event.occurred_at, event.id, event.type == says.paid))


def final_end(label: Label, loan: Event, story: Story) -> End | None:
    """The end of a loan by its final due date: bad if it was not closed by then plus grace. None for one without a due date."""
    due = loan.data.get(label.due_field)
    if due is None:
        return None
    closing = story.closings.get(_loan_id(loan))
    last_moment = int(due) + label.grace_ms
    return End(closing is None or closing.occurred_at > last_moment, last_moment)


def _end(label: Label, outcome: Outcome | None, loan: Event, story: Story) -> End | None:
    if outcome is None:
        return final_end(label, loan, story)
    loan_id = _loan_id(loan)
    return _watched(
        outcome, loan, story.closings.get(loan_id), list(story.instalments.get(loan_id, {}).items())
    )


def _loan_id(loan: Event) -> str:
    return str(loan.data.get("loan_id", ""))


def _watched(
    outcome: Outcome, loan: Event, closing: Event | None, instalments: list[tuple[int, Instalment]]
) -> End | None:
    """None for a loan of which no instalment has fallen due, where the first one decides."""
    dues = sorted((one.due, number) for number, one in instalments if one.due is not None)
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
    return End(bad, mature)
