"""Which checkouts turned bad, and since when that was known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from candor.contracts import Application, Event, parse_checkout
from candor.errors import DefinitionError, InvalidInput
from candor.features.views import Definitions, Label
from history.point_in_time import Question

CHECKOUT = "checkout.started"


@dataclass(frozen=True)
class Labelled:
    """A checkout with its end: `bad`, used from `known_at` (ms UTC) on."""

    question: Question
    bad: bool
    known_at: int


@dataclass
class Story:
    """The events that decide labels, by what they are about; of several copies or attempts the earliest."""

    checkouts: dict[str, Event] = field(default_factory=dict)
    loans: dict[str, Event] = field(default_factory=dict)
    closings: dict[str, Event] = field(default_factory=dict)


def labelled_checkouts(
    definitions: Definitions, events: Iterable[Event], as_of: int
) -> tuple[list[Labelled], int]:
    """Checkouts whose label was mature before `as_of` (ms), by moment; and how many bodies could not be read.

    Bad: the loan was not closed by its due date plus grace. Good and bad mature together, at that moment: counting a
    good end as soon as it happens would fill the latest weeks with early payers.
    Raises DefinitionError if the definitions declare no label.
    """
    if definitions.label is None:
        raise DefinitionError("the definitions have no label: declare Label(...) to train")
    story = _story(definitions.label, events)
    found, unreadable = [], 0
    for checkout_id, started in story.checkouts.items():
        loan = story.loans.get(checkout_id)
        end = _end(definitions.label, loan, story) if loan else None
        if end is None or end[1] >= as_of:
            continue
        try:
            checkout = parse_checkout(msgspec.json.encode(started.data["checkout"]))
        except InvalidInput:
            unreadable += 1
            continue
        application = Application(checkout, started.entities.get("merchant", ""))
        found.append(Labelled(Question(checkout_id, started.occurred_at, application), *end))
    return sorted(found, key=lambda one: (one.question.q, one.question.row_id)), unreadable


def _story(label: Label, events: Iterable[Event]) -> Story:
    story = Story()
    places = {
        CHECKOUT: (story.checkouts, "checkout_id"),
        label.origin: (story.loans, "checkout_id"),
        label.closed: (story.closings, "loan_id"),
    }
    for event in events:
        place, key = places.get(event.type, (None, ""))
        about = event.data.get(key)
        if place is None or about is None:
            continue
        known = place.setdefault(about, event)
        if (event.occurred_at, event.id) < (known.occurred_at, known.id):
            place[about] = event
    return story


def _end(label: Label, loan: Event, story: Story) -> tuple[bool, int] | None:
    """Whether the loan turned bad and when that label is mature; None for a loan without a due date."""
    due = loan.data.get(label.due_field)
    if due is None:
        return None
    last_moment = int(due) + label.grace_ms
    closing = story.closings.get(loan.data.get("loan_id", ""))
    return closing is None or closing.occurred_at > last_moment, last_moment
