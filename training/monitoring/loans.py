"""What became of the loans that checkouts led to, as far as the archive tells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from candor.contracts import Event
from candor.features.event_types import DECIDED
from candor.features.labels import Label


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
    """The ends of all loans by what happened before `until` (ms UTC). Of several copies of an event the earliest counts.

    What was taken back counts as if it had never been.
    """
    begun: defaultdict[str, list[Event]] = defaultdict(list)
    closings: defaultdict[str, list[Event]] = defaultdict(list)
    places = {label.origin: (begun, "checkout_id"), label.closed: (closings, "loan_id")}
    voided: set[str] = set()
    found = LoanEnds()
    for event in events:
        if max(event.occurred_at, event.voided_at or 0) >= until:
            continue
        if event.type != DECIDED:  # the platform's own: it flows while the lender's services may not
            found.newest = max(found.newest, event.occurred_at)
        if event.voided_at is not None:
            voided.add(event.id)
        elif event.type in places:
            place, key = places[event.type]
            place[event.data.get(key) or ""].append(event)
    begun.pop("", None)
    closings.pop("", None)
    for checkout_id, copies in begun.items():
        loan = _earliest(copies, voided)
        if loan is None:
            continue
        due = loan.data.get(label.due_field)
        if due is None:
            found.undated += 1
        else:
            closing = _earliest(closings.get(loan.data.get("loan_id", ""), ()), voided)
            found.ends[checkout_id] = _end(loan, closing, int(due) + label.grace_ms)
    return found


def _end(loan: Event, closing: Event | None, last_moment: int) -> LoanEnd:
    return LoanEnd(loan.occurred_at, last_moment, closing is None or closing.occurred_at > last_moment)


def _earliest(copies: Iterable[Event], voided: set[str]) -> Event | None:
    standing = [event for event in copies if event.id not in voided]
    return min(standing, key=lambda event: (event.occurred_at, event.id), default=None)
