"""A pay-later lender: what it remembers, what it asks of a checkout, what it refuses and what it then says."""

from candor import Party, Profile
from lender.decision_table import policy
from lender.definitions import DEFINITIONS
from lender.reasons import REASONS

REGULATION_PROFILE = Profile(
    name="US-federal/2026-07",
    creditor=Party("Example Pay Later, Inc.", "1 Example Street, Wilmington, DE 19801"),
    agency=Party("Federal Trade Commission, Equal Credit Opportunity", "Washington, DC 20580"),
)
"""The rules under which decisions are taken, and who speaks in a notice; every decision record names them."""

__all__ = ["DEFINITIONS", "REASONS", "REGULATION_PROFILE", "policy"]
