"""Naive oracle: plain loops over all accepted events.

It restates the window arithmetic and uses only the specs of candor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from candor.contracts import Event
from candor.features.views import FeatureView
from candor.features.windows import Window

HOPS_MS = (2_419_200_000, 604_800_000, 86_400_000, 21_600_000, 3_600_000, 900_000, 60_000, 10_000)


def left_edge(length: int | None, q: int, hop_of: int | None = None) -> int:
    """Return the first moment (ms) of the window that ends at ``q``, on its own hop or that of another length.

    A lifetime window has no left edge.
    """
    if length is None:
        return -(2**62)
    hop = max((hop for hop in HOPS_MS if 24 * hop <= (hop_of or length)), default=HOPS_MS[-1])
    return (q - length) // hop * hop


def expected(view: FeatureView, events: Iterable[Event], q: int) -> list[float]:
    """Return every feature of the view at ``q``, from the distinct events of one entity."""
    ordered = sorted(events, key=lambda event: (event.occurred_at, event.id))
    return [
        _value(feature.aggregation.spec(), _inside(ordered, *edges(feature.window, q, view.exact_windows)), q)
        for feature in view.features
    ]


def begin_of_history(moments: Iterable[int], expiry: int | None, q: int) -> int | None:
    """Return the first moment before ``q`` that no gap longer than the expiry follows; None if all have expired."""
    begin: int | None = None
    last: int | None = None
    for at in sorted(at for at in moments if at < q):
        if last is None or (expiry is not None and at - last > expiry):
            begin = at
        last = at
    return None if last is None or (expiry is not None and q - last > expiry) else begin


def edges(window: Window, q: int, exact: bool) -> tuple[int, int]:  # noqa: FBT001 - a declaration's own flag
    """Return the first moment inside a window and the first moment after it."""
    if exact:
        return q - (window.length or 0), q
    grid = window.length or window.delay
    end = left_edge(window.delay, q, grid) if window.delay else q
    return (left_edge(window.length + window.delay, q, grid) if window.length else -(2**62)), end


def _inside(events: Sequence[Event], start: int, end: int) -> list[Event]:
    return [event for event in events if start <= event.occurred_at < end]


def _value(spec: Sequence[Any], events: Sequence[Event], q: int) -> float:
    op, field, where = spec[:3]
    events = [event for event in events if where is None or _holds(where, event)]
    if op == "last_k":
        assert spec[3:] == ["sum", spec[4], "events"]
        return float(sum(event.data.get(field) or 0 for event in events[-spec[4] :]))
    if field is not None:
        events = [event for event in events if event.data.get(field) is not None]
    values = [event.data[field] if field else 1 for event in events]
    if op == "rate_of_change":
        return _change(events, values, q, spec[4])
    if op == "decayed_sum":
        return _decayed(events, values, q, spec[3])
    return _FINAL[op](events, values, q)


def _holds(where: Sequence[Any], event: Event) -> bool:
    """Evaluate a filter: a comparison with a missing field is false, and its negation true."""
    match where:
        case ["type", types]:
            return event.type in types
        case ["cmp", field, ">", value]:
            return field in event.data and event.data[field] > value
        case ["cmp", field, "==", value]:
            return field in event.data and event.data[field] == value
        case ["or", left, right]:
            return _holds(left, event) or _holds(right, event)
        case ["not", inner]:
            return not _holds(inner, event)
    raise ValueError(f"no simulated lender filters by {where[0]}")


def _change(events: Sequence[Event], values: Sequence[int], q: int, period: int) -> float:
    first, middle = left_edge(2 * period, q, period), left_edge(period, q, period)
    pairs = [(event.occurred_at, value) for event, value in zip(events, values, strict=True)]
    later = sum(value for at, value in pairs if at >= middle)
    earlier = sum(value for at, value in pairs if first <= at < middle)
    return float(Fraction(later - earlier, earlier)) if earlier else math.nan


def _decayed(events: Sequence[Event], values: Sequence[int], q: int, half_life: int) -> float:
    """Sum with ages in whole eighths of the half-life and weights of 32 binary digits."""
    ages = [q * 8 // half_life - event.occurred_at * 8 // half_life for event in events]
    weights = [round(Decimal(2) ** (32 - Decimal(age) / 8)) for age in ages]
    return float(Fraction(sum(value * weight for value, weight in zip(values, weights, strict=True)), 2**32))


_Final = Callable[[Sequence[Event], list[Any], int], float]


def _or_nan(value: Callable[[Sequence[Event], list[Any], int], Any]) -> _Final:
    return lambda events, values, q: float(value(events, values, q)) if events else math.nan


_FINAL: dict[str, _Final] = {
    "count": lambda events, values, q: float(len(events)),
    "sum": lambda events, values, q: float(sum(values)),
    "mean": _or_nan(lambda events, values, q: Fraction(sum(values), len(values))),
    "max": _or_nan(lambda events, values, q: max(values)),
    "last": _or_nan(lambda events, values, q: values[-1]),
    "time_since_last": _or_nan(lambda events, values, q: Fraction(q - events[-1].occurred_at, 1_000)),
    "distinct": lambda events, values, q: float(len(set(values))),
}
