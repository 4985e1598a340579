"""Naive oracle: plain loops over the whole list of events.

It restates the formula of a window and finalizes with its own fractions; of candor it uses declarations only (names,
specs, labels). The simulation and the tests compare with it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import Any

from candor.contracts import Event
from candor.features.event_types import EventType
from candor.features.views import FeatureView

UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LADDER_MS = (2_419_200_000, 604_800_000, 86_400_000, 21_600_000, 3_600_000, 900_000, 60_000, 10_000)


@cache
def length_of(label: str) -> int | None:
    """Return the length of a window in ms; None for lifetime."""
    if label == "lifetime":
        return None
    spelled = re.fullmatch(r"(\d+)([smhd])", label)
    assert spelled is not None, label
    number, unit = spelled.groups()
    return int(number) * UNIT_MS[unit]


@cache
def hop_of(length: int) -> int:
    """Return the largest ladder step not above a 24th of the length, or the smallest step."""
    fitting = [step for step in LADDER_MS if step <= Fraction(length, 24)]
    return max(fitting, default=min(LADDER_MS))


def left_edge(label: str, q: int) -> int | None:
    """Return the first moment inside the window at `q`; None where it has no left edge."""
    return edges(label, q)[0]


def edges(label: str, q: int, *, exact: bool = False) -> tuple[int | None, int]:
    """Return the first moment inside a window (None without a left edge) and the first moment after it."""
    name, _, delay = label.partition("_delayed_")
    length, back = length_of(name), (length_of(delay) or 0) if delay else 0
    if exact:
        assert length is not None
        return q - length, q
    hop = hop_of(length if length is not None else back or 1)
    end = math.floor(Fraction(q - back, hop)) * hop if delay else q
    return None if length is None else math.floor(Fraction(q - back - length, hop)) * hop, end


def expected(
    view: FeatureView, events: Sequence[Event], key: str, q: int, knowledge: str = "at_moment"
) -> list[float]:
    """Return every feature of the view at `q` for one entity, from all events in order of arrival.

    `knowledge`: as known at that moment, or ("ever") as known at any time since.
    """
    counting = _unvoided(view, _living(view, events, key, q, knowledge), key, q, knowledge)
    inside = [event for event in _relevant(view, counting, key) if _known_from(event, knowledge) < q]
    return features(view, inside, q)


def features(view: FeatureView, counting: Sequence[Event], q: int) -> list[float]:
    """Return every feature of the view at `q`, from exactly the events that count."""
    return [
        aggregate(
            feature.aggregation.spec(),
            _inside(counting, feature.window.label, q, exact=view.exact_windows),
            q,
        )
        for feature in view.features
    ]


def begin_of_history(moments: Iterable[int], expiry: int | None, q: int) -> int | None:
    """Return the first moment before `q` that no gap longer than the expiry follows; None if all have expired."""
    begin: int | None = None
    last: int | None = None
    for at in sorted(at for at in moments if at < q):
        if last is None or (expiry is not None and at - last > expiry):
            begin = at
        last = at
    return None if last is None or (expiry is not None and q - last > expiry) else begin


def seen_before(view: FeatureView, events: Sequence[Event], key: str, q: int) -> bool:
    """True if the entity had an event of the view before `q` and its history had not expired."""
    return any(event.occurred_at < q and event.voided_at is None for event in _living(view, events, key, q))


def seen_lately(view: FeatureView, events: Sequence[Event], key: str, q: int) -> bool:
    """True if the entity had an event in the view's longest window before `q`, which is never too late."""
    counting = _relevant(view, _unvoided(view, _living(view, events, key, q), key, q, "ever"), key)
    return any(
        _inside(counting, feature.window.label, q, exact=view.exact_windows) for feature in view.features
    )


def aggregate(spec: Sequence[Any], events: Iterable[Event], q: int) -> float:
    """Compute one aggregation, given as its spec, over exactly these events."""
    if spec[0] == "ratio":
        events = list(events)
        above, below = (aggregate(operand, events, q) for operand in spec[1:])
        return math.nan if below == 0 or math.isnan(below) else above / below
    op, field, where, *parameters = spec
    counted = [event for event in events if where is None or _holds(where, event)]
    counted.sort(key=lambda event: (event.occurred_at, event.id.encode()))
    if op == "last_k" and parameters[2:] == ["events"]:
        counted = counted[-parameters[1] :]
    if field is not None:
        counted = [event for event in counted if event.data.get(field) is not None]
    values = [event.data[field] for event in counted] if field is not None else [1] * len(counted)
    if parameters:
        return _PARAMETRIC[op](values, counted, q, *parameters)
    return _FINAL[op](values, counted, q)


def _last_k(
    values: list[int], events: list[Event], q: int, inner: str, k: int, over: str = "values"
) -> float:
    assert over in {"values", "events"}
    return _FINAL[inner](values[-k:], events[-k:], q)


def _last_category(values: list[str], events: list[Event], q: int, categories: Sequence[str]) -> float:
    if not values:
        return math.nan
    return float(categories.index(values[-1]) if values[-1] in categories else -1)


def _distinct(values: list[Any], events: list[Event], q: int, exact: int) -> float:
    different = {f"{type(value).__name__}:{value}" for value in values}
    return float(len(different)) if len(different) <= exact else max(_sketched(different), exact + 1.0)


def _sketched(different: Iterable[str]) -> float:
    """Estimate by HyperLogLog with 1,024 registers: Ertl's improved raw estimator in fractions, rounded."""
    ranks = dict.fromkeys(range(1024), 0)
    for value in different:
        bits = int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big")
        rank = next((n for n in range(1, 55) if bits >> (64 - n) & 1), 55)
        ranks[bits % 1024] = max(ranks[bits % 1024], rank)
    empty = sum(rank == 0 for rank in ranks.values()) / 1024
    sigma = empty + sum(empty ** (2**n) * 2 ** (n - 1) for n in range(1, 30))
    harmonic = sum(Fraction(1, 2**rank) for rank in ranks.values() if rank)
    return float(round(1024**2 / (2 * math.log(2)) / (float(harmonic) + 1024 * sigma)))


def _decayed(values: list[int], events: list[Event], q: int, half_life: int) -> float:
    """Sum of values times 2^(−age/8) with 32 binary digits; age counts whole eighths of the half-life."""
    step = Fraction(half_life, 8)
    ages = [math.floor(q / step) - math.floor(event.occurred_at / step) for event in events]
    with localcontext(prec=60):
        weights = [round(2 ** (32 - Decimal(max(age, 0)) / 8)) if age <= 256 else 0 for age in ages]
    return float(Fraction(sum(value * weight for value, weight in zip(values, weights, strict=True)), 2**32))


def _change(values: list[int], events: list[Event], q: int, inner: str, period: int, hop: int) -> float:
    assert inner in {"count", "sum"}
    assert hop == hop_of(period)
    first, middle = (math.floor(Fraction(q - n * period, hop)) * hop for n in (2, 1))
    moments = [event.occurred_at for event in events]
    later = sum(value for value, at in zip(values, moments, strict=True) if middle <= at)
    earlier = sum(value for value, at in zip(values, moments, strict=True) if first <= at < middle)
    return float(Fraction(later - earlier, earlier)) if earlier else math.nan


def _relevant(view: FeatureView, events: Sequence[Event], key: str) -> list[Event]:
    types = {kind.name: kind for kind in view.events}
    first_copies: dict[str, Event] = {}
    for event in events:
        if event.type in types and event.entities.get(view.entity.name) == key:
            first_copies.setdefault(event.id, event)
    return [_declared(event, types[event.type]) for event in first_copies.values()]


def _unvoided(view: FeatureView, events: Sequence[Event], key: str, q: int, knowledge: str) -> list[Event]:
    """Return the events not voided at `q`: no voids, and none whose void, in its first copy, is before `q`."""
    voids = _relevant(view, [event for event in events if event.voided_at is not None], key)
    gone = {void.id for void in voids if _known_from(void, knowledge) < q}
    return [event for event in events if event.voided_at is None and event.id not in gone]


def _living(
    view: FeatureView, events: Sequence[Event], key: str, q: int, knowledge: str = "ever"
) -> list[Event]:
    """Return the events after the last gap before `q` that exceeds the view's expiry."""
    types = view.event_types
    relevant = [
        event for event in events if event.type in types and event.entities.get(view.entity.name) == key
    ]
    first = _relevant(view, [event for event in relevant if event.voided_at is None], key)
    happened = {event.occurred_at for event in first if _known_from(event, knowledge) < q}
    begin = begin_of_history(happened, view.expiry_ms, q)
    start = q if begin is None else begin
    return [event for event in relevant if event.voided_at is not None or event.occurred_at >= start]


def _known_from(event: Event, knowledge: str) -> int:
    """Return the event's own moment, or when it became known if that is later."""
    own = event.occurred_at if event.voided_at is None else event.voided_at
    if knowledge == "ever" or event.known_at is None or event.known_at < own:
        return own
    return event.known_at


def _declared(event: Event, kind: EventType) -> Event:
    usable = {name for name, field in kind.fields.items() if field.kind != "json"}
    data = {name: value for name, value in event.data.items() if name in usable}
    moments = event.voided_at, event.known_at
    return Event(event.id, event.type, event.occurred_at, event.entities, data, *moments)


def _inside(events: Sequence[Event], label: str, q: int, *, exact: bool = False) -> list[Event]:
    start, end = edges(label, q, exact=exact)
    return [
        event for event in events if event.occurred_at < end and (start is None or event.occurred_at >= start)
    ]


def _holds(spec: Sequence[Any], event: Event) -> bool:
    if spec[0] == "and":
        return _holds(spec[1], event) and _holds(spec[2], event)
    if spec[0] == "or":
        return _holds(spec[1], event) or _holds(spec[2], event)
    if spec[0] == "not":
        return not _holds(spec[1], event)
    if spec[0] == "type":
        return event.type in spec[1]
    _, field, op, value = spec
    value_of_event = event.data.get(field)
    if value_of_event is None or isinstance(value_of_event, str) != isinstance(value, str):
        return False
    return _COMPARISONS[op]((value_of_event > value) - (value_of_event < value))


_COMPARISONS: dict[str, Callable[[int], bool]] = {
    "==": lambda sign: sign == 0,
    "!=": lambda sign: sign != 0,
    "<": lambda sign: sign < 0,
    "<=": lambda sign: sign <= 0,
    ">": lambda sign: sign > 0,
    ">=": lambda sign: sign >= 0,
}
"""Comparisons by the sign of event − value."""


def _mean(values: list[int], events: list[Event], q: int) -> float:
    return float(Fraction(sum(values), len(values))) if values else math.nan


def _variance(values: list[int], events: list[Event], q: int) -> float:
    if not values:
        return math.nan
    mean = Fraction(sum(values), len(values))
    return float(sum((value - mean) ** 2 for value in values) / len(values))


def _or_nan(choose: Callable[[list[int]], int]) -> Callable[[list[int], list[Event], int], float]:
    return lambda values, events, q: float(choose(values)) if values else math.nan


def _since(values: list[int], events: list[Event], q: int) -> float:
    return float(Fraction(q - events[-1].occurred_at, 1_000)) if events else math.nan


_FINAL: dict[str, Callable[[list[Any], list[Event], int], float]] = {
    "count": lambda values, events, q: float(len(events)),
    "sum": lambda values, events, q: float(sum(values)),
    "mean": _mean,
    "variance": _variance,
    "min": _or_nan(min),
    "max": _or_nan(max),
    "first": _or_nan(lambda values: values[0]),
    "last": _or_nan(lambda values: values[-1]),
    "time_since_last": _since,
}

_PARAMETRIC: dict[str, Callable[..., float]] = {
    "last_k": _last_k,
    "last_category": _last_category,
    "distinct": _distinct,
    "decayed_sum": _decayed,
    "rate_of_change": _change,
}
