"""A pay-later lender: its definitions, what it accepts, policy, reasons, regulatory profile and model card."""

from candor import ModelCard, Party, Profile
from lender.acceptance import ACCEPTANCE
from lender.decision_table import policy
from lender.definitions import DEFINITIONS
from lender.reasons import MONOTONE, REASONS

REGULATION_PROFILE = Profile(
    name="US-federal/2026-07",
    creditor=Party("Example Pay Later, Inc.", "1 Example Street, Wilmington, DE 19801"),
    agency=Party("Federal Trade Commission, Equal Credit Opportunity", "Washington, DC 20580"),
)
"""The regulatory profile of all decisions; every decision record names it."""

MODEL_CARD = ModelCard(
    name="Checkout risk",
    owner="Consumer credit risk",
    developer="Credit data science",
    validator="Model validation",
    tier="high",
    purpose="Probability that a loan asked for at a checkout is not repaid by its last due date and the days of grace",
    exclusions=(
        "Applicants who were declined: their loans never began, so nobody knows their end",
        "Loans whose end was not known at the moment of training",
        "Protected characteristics and what stands for them: never a feature",
    ),
    limits=(
        "Not for credit beyond the amounts and terms of the data window",
        "Not for limits, prices or collections: it ranks and measures the risk of one loan",
        "A first-time customer is judged by the request alone",
    ),
)
"""Entry of the trained model in the model inventory."""

__all__ = [
    "ACCEPTANCE",
    "DEFINITIONS",
    "MODEL_CARD",
    "MONOTONE",
    "REASONS",
    "REGULATION_PROFILE",
    "policy",
]
