"""Labels of instalments against hand counts, and the monthly series."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from candor import Definitions, EventType, Instalments, Integer, Label, Outcome, Text
from candor.clock import DAY
from candor.contracts import Event, parse_event
from candor.errors import DefinitionError
from tests.training.conftest import CLOSED, CUSTOMER, ORIGINATED, STARTED, T0, event, feed_until, loan
from training.dataset.labels import MonthStatus, labelled_checkouts, monthly_status

FIELDS = {"loan_id": Text(), "installment": Integer()}
DUE, PAID, REVERSED = (
    EventType(f"payment.{name}", [CUSTOMER], FIELDS) for name in ("due", "succeeded", "reversed")
)
OUTCOMES = [
    Outcome("first_payment_default", past_due="3d"),
    Outcome("dpd30", past_due="30d", within="90d"),
]
LABEL = Label(
    "loan.originated",
    "loan.closed",
    "first_due_at",
    "3d",
    Instalments(DUE.name, PAID.name, REVERSED.name),
    OUTCOMES,
)
DEFINITIONS = Definitions(
    entities=[CUSTOMER], events=[STARTED, ORIGINATED, CLOSED, DUE, PAID, REVERSED], views=[], label=LABEL
)
LATER = T0 + 400 * DAY


def payment(kind: str, day: float, number: int = 1) -> dict:
    at = T0 + int(day * DAY)
    return event(f"{kind}{number}_{day}", f"payment.{kind}", at, "a", loan_id="loan_1", installment=number)


def events(*turns: dict, closed: int | None = None) -> list[Event]:
    made = [*loan("1", "a", T0, days_late=closed), *turns]
    return [parse_event(json.dumps(body).encode()) for body in made]


def label(name: str, history: list[Event], as_of: int = LATER) -> tuple[bool, int] | None:
    last = parse_event(json.dumps(feed_until(as_of)).encode())
    rows, _ = labelled_checkouts(DEFINITIONS, [*history, last], as_of, name)
    return (rows[0].bad, (rows[0].known_at - T0) // DAY) if rows else None


@pytest.mark.parametrize(
    ("turns", "first", "thirty"),
    [
        ([payment("due", 14)], True, True),
        ([payment("due", 14), payment("succeeded", 14)], False, False),
        ([payment("due", 14), payment("succeeded", 17)], False, False),
        ([payment("due", 14), payment("succeeded", 17.1)], True, False),
        ([payment("due", 14), payment("succeeded", 44)], True, False),
        ([payment("due", 14), payment("succeeded", 44.1)], True, True),
        ([payment("due", 14), payment("succeeded", 13), payment("reversed", 16)], True, True),
        (
            [payment("due", 14), payment("succeeded", 13), payment("reversed", 15), payment("succeeded", 16)],
            False,
            False,
        ),
        ([payment("due", 14), payment("succeeded", 14), payment("due", 28, 2)], False, True),
        ([payment("due", 14), payment("succeeded", 14), payment("due", 61, 2)], False, False),
    ],
)
def test_an_instalment_that_stayed_unpaid_is_bad_and_all_mature_together(turns, first, thirty):
    assert label("first_payment_default", events(*turns)) == (first, 17)
    assert label("dpd30", events(*turns)) == (thirty, 90)


def test_a_loan_that_is_not_old_enough_is_neither_good_nor_bad():
    history = events(payment("due", 14))
    assert label("dpd30", history, T0 + 90 * DAY) is None
    assert label("dpd30", history, T0 + 90 * DAY + 2) == (True, 90)
    assert label("first_payment_default", history, T0 + 17 * DAY) is None
    assert label("first_payment_default", events()) is None


def test_what_is_closed_is_not_behind():
    assert label("dpd30", events(payment("due", 14), closed=-10)) == (False, 90)


def test_a_voided_payment_counts_until_it_was_voided():
    paid = events(payment("due", 14), payment("succeeded", 14))
    [last] = [item for item in paid if item.type == "payment.succeeded"]
    void = Event(last.id, last.type, last.occurred_at, last.entities, last.data, T0 + 200 * DAY)
    assert label("dpd30", [*paid, void], T0 + 100 * DAY) == (False, 90)
    assert label("dpd30", [*paid, void], LATER) == (True, 90)


def test_a_void_takes_a_payment_back_from_when_it_was_known():
    paid = events(payment("due", 14), payment("succeeded", 14))
    [last] = [item for item in paid if item.type == "payment.succeeded"]
    void = replace(last, voided_at=T0 + 20 * DAY, known_at=T0 + 200 * DAY)
    assert label("dpd30", [*paid, void], T0 + 200 * DAY) == (False, 90)
    assert label("dpd30", [*paid, void], T0 + 200 * DAY + 1) == (True, 90)


def test_the_series_counts_whole_days_of_the_oldest_unpaid_instalment_up_to_the_closing():
    history = events(payment("due", 14), payment("succeeded", 40), payment("due", 45, 2), closed=60)
    months = list(monthly_status(DEFINITIONS, history, LATER))
    assert [(month.month, month.days_past_due) for month in months] == [(1, 16), (2, 15), (3, 0)]
    assert months[0] == MonthStatus("chk_1", "loan_1", 1, T0 + 1 + 30 * DAY, 16)
    assert list(monthly_status(DEFINITIONS, history, T0 + 60 * DAY)) == months[:1]


def test_an_unknown_label_names_those_that_there_are():
    with pytest.raises(DefinitionError, match="there are final_due, first_payment_default, dpd30"):
        label("dpd_30", [])


def test_outcomes_need_instalments_and_names_of_their_own():
    with pytest.raises(DefinitionError, match="say how they are told"):
        Label("a", "b", "c", "3d", outcomes=OUTCOMES)
    with pytest.raises(DefinitionError, match="one name"):
        Label("a", "b", "c", "3d", LABEL.instalments, [Outcome("x", "3d"), Outcome("x", "4d")])
