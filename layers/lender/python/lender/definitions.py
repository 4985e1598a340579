"""Everything the lender declares, checked together."""

from __future__ import annotations

from candor import Definitions, Label
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
    label=Label(origin="loan.originated", closed="loan.closed", due_field="final_due_at", grace="3d"),
)
