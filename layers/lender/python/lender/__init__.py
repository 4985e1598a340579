"""A pay-later lender: what it remembers, what it asks of a checkout, what it refuses and what it then says."""

from lender.decision_table import policy
from lender.definitions import DEFINITIONS
from lender.reasons import REASONS

REGULATION_PROFILE = "US-federal/2026-07"
"""The rules under which decisions are taken; every decision record names them."""

__all__ = ["DEFINITIONS", "REASONS", "REGULATION_PROFILE", "policy"]
