"""Members of a decision's record as text for people: money, moments, durations and shares with their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from candor.clock import format_rfc3339
from candor.features.units import units
from candor.units import DAYS, MONEY, SECONDS, UNKNOWN, quantity
from lender import DEFINITIONS

_UNITS: Final = {
    "total": MONEY,
    "tax_amount": MONEY,
    "shipping_amount": MONEY,
    "discount_amount": MONEY,
    "unit_price": MONEY,
    "finance_charge": MONEY,
    "amount": MONEY,
    "period_days": DAYS,
    "session_age_s": SECONDS,
}
_MOMENTS: Final = frozenset({"due_at", "remind_at"})
_SHARES: Final = frozenset({"score", "cutoff", "propensity"})


def readable(value: Any, currency: str, name: str = "") -> Any:
    """The same members with text for numbers that have a unit. Money is in minor units of `currency`, moments are ms."""
    if isinstance(value, Mapping):
        return {member: readable(each, currency, member) for member, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [readable(each, currency) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if name in _MOMENTS:
        return format_rfc3339(int(value))
    if name in _SHARES:
        return f"{value:.2%}"
    return quantity(value, _UNITS[name], [currency]) if name in _UNITS else value


def feature_text(name: str, value: float | None, currency: str) -> str:
    """Value of a feature with its declared unit, if these definitions have the feature."""
    return quantity(value, _FEATURES.get(name, UNKNOWN), [currency])


_FEATURES: Final = units(DEFINITIONS)
