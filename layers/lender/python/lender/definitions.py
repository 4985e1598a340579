"""All declarations of the lender."""

from __future__ import annotations

from candor import Definitions, Instalments, Label, Outcome
from lender.entities import customer, device, merchant
from lender.events import EVENTS
from lender.requests import ON_DEMAND
from lender.views import VIEWS

DEFINITIONS = Definitions(
    entities=[customer, merchant, device],
    events=EVENTS,
    views=VIEWS,
    on_demand=ON_DEMAND,
    # A loan of several instalments is still open after its first one: only the final due date tells good from bad.
    label=Label(
        origin="loan.originated",
        closed="loan.closed",
        due_field="final_due_at",
        grace="3d",
        instalments=Instalments(due="payment.due", paid="payment.succeeded", reversed="payment.reversed"),
        outcomes=[
            Outcome("first_payment_default", past_due="3d"),
            Outcome("dpd30", past_due="30d", within="120d"),
            Outcome("dpd60", past_due="60d", within="150d"),
            Outcome("dpd90", past_due="90d", within="180d"),
        ],
    ),
)
