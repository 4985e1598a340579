"""Labels that nothing could ever match are refused when they are declared."""

import pytest

from candor import Definitions, Entity, EventType, Instalments, Integer, Label, Outcome, Text
from candor.errors import DefinitionError

CUSTOMER = Entity("customer", "checkout.applicant.token")
NUMBERED = {"loan_id": Text(), "installment": Integer(optional=True)}
EVENTS = [
    EventType("loan.originated", [CUSTOMER], {"loan_id": Text(), "final_due_at": Integer()}),
    EventType("loan.closed", [CUSTOMER], {"loan_id": Text()}),
    EventType("payment.due", [CUSTOMER], NUMBERED),
    EventType("payment.succeeded", [CUSTOMER], NUMBERED),
]
PAYMENTS = Instalments("payment.due", "payment.succeeded")


def declared(**changed) -> Definitions:
    settled = {
        "origin": "loan.originated",
        "closed": "loan.closed",
        "due_field": "final_due_at",
        "grace": "3d",
    }
    return Definitions(entities=[CUSTOMER], events=EVENTS, views=[], label=Label(**settled | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"origin": "loan.orignated"},
            'the label asks for event type "loan.orignated", which is not declared',
        ),
        ({"closed": "loan.close"}, 'event type "loan.close", which is not declared'),
        ({"due_field": "due_at"}, '"loan.originated" declares no integer "due_at"'),
        ({"due_field": "loan_id"}, '"loan.originated" declares no integer "loan_id"'),
        ({"instalments": Instalments("payment.due", "payment.paid")}, 'event type "payment.paid"'),
        (
            {"instalments": Instalments("payment.due", "payment.succeeded", "payment.reversed")},
            'event type "payment.reversed"',
        ),
        (
            {"instalments": Instalments("payment.due", "payment.succeeded", number="instalment")},
            '"payment.due" declares no integer "instalment"',
        ),
    ],
)
def test_a_label_is_of_declared_events_and_fields(changed, message):
    with pytest.raises(DefinitionError, match=message):
        declared(**changed)


def test_a_label_as_declared_is_accepted():
    assert (
        declared(instalments=PAYMENTS, outcomes=[Outcome("dpd30", "30d", "30d")]).label.grace_ms
        == 259_200_000
    )


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: declared(grace="three days"), 'duration "three days"'),
        (lambda: Outcome("dpd30", past_due="30"), 'duration "30"'),
        (lambda: Outcome("dpd30", past_due="30d", within="x"), 'duration "x"'),
        (lambda: Outcome("dpd30", past_due="30d", within="29d"), '"dpd30".*never bad.*within'),
    ],
)
def test_durations_are_read_when_they_are_declared(write, message):
    with pytest.raises(DefinitionError, match=message):
        write()
