"""Numbers with their units, as text for people: money, durations, days, shares."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from candor.clock import DAY, HOUR, MINUTE, SECOND
from candor.iso_codes import EXPONENTS

MONEY: Final = "money"
"""Unit of an amount in minor units of a currency."""
SECONDS: Final = "seconds"
DAYS: Final = "days"
COUNT: Final = "count"
RATIO: Final = "ratio"
UNKNOWN: Final = ""
"""Unit of a number whose declaration names none."""

MISSING: Final = "missing"
"""Text of a value that is null or NaN."""

_STEPS: Final = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"))


def exponent(currencies: Collection[str]) -> int | None:
    """Decimals that these currencies (ISO 4217) share; None if there are none, or they differ."""
    decimals = {EXPONENTS.get(currency) for currency in currencies}
    return decimals.pop() if len(decimals) == 1 else None


def money(minor: float, currencies: Collection[str]) -> str:
    """Amount with its currency, in major units: 24,999 is `249.99 USD`, or `24,999 JPY`.

    Of several currencies all are named. Where their decimals differ, or none is known, the amount is in minor units.
    """
    decimals = exponent(currencies)
    if decimals is None:
        return f"{minor:,.0f} minor units"
    return f"{minor / 10**decimals:,.{decimals}f} {' or '.join(sorted(currencies))}"


def duration(seconds: float) -> str:
    """Duration in its two largest units: 5,589,384 s is `64 d 16 h`; below a minute in seconds, to the millisecond."""
    ms = round(abs(seconds) * SECOND)
    sign = "-" if seconds < 0 and ms else ""
    if ms < MINUTE:
        return f"{sign}{ms / SECOND:g} s"
    largest = next(index for index, (length, _) in enumerate(_STEPS) if ms >= length)
    (length, name), (smaller, smaller_name) = _STEPS[largest : largest + 2]
    rest = ms % length // smaller
    return f"{sign}{ms // length} {name}" + (f" {rest} {smaller_name}" if rest else "")


def quantity(value: float | None, unit: str, currencies: Collection[str] = ()) -> str:
    """Value with its unit; `missing` for null and NaN. `currencies` are those that money may be in."""
    if value is None or math.isnan(value):
        return MISSING
    if unit == MONEY:
        return money(value, currencies)
    if unit == SECONDS:
        return duration(value)
    return _with_unit(value, unit)


def exact(value: float, unit: str) -> str:
    """Value to twelve digits in the unit it is stored in, where a difference of one must show; `missing` for NaN."""
    return (
        MISSING
        if math.isnan(value)
        else _with_unit(value, {MONEY: "minor units", SECONDS: "s"}.get(unit, unit))
    )


def _with_unit(value: float, unit: str) -> str:
    number = f"{value:.12g}"
    return number if unit in (COUNT, RATIO, UNKNOWN) else f"{number} {unit}"
