"""Feature values, read from docs/features.md alone: every question is answered anew from the list of events.

Nothing of candor's own computation is used, and nothing is fast: each value is a loop over the events of its window.
Declarations are said a second time here, as plain data, so that candor's objects decide nothing either.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from candor import Event

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SECONDS = 1_000

STEPS = (
    10 * SECONDS,
    UNITS["m"],
    15 * UNITS["m"],
    UNITS["h"],
    6 * UNITS["h"],
    UNITS["d"],
    7 * UNITS["d"],
    28 * UNITS["d"],
)
"""The steps that the left edge of a window may have."""

LIFETIME = "lifetime"
MAX_SKEW = 5 * UNITS["m"]
TWO_YEARS = 730 * UNITS["d"]
DIGITS = 32
"""Digits of a decayed weight after the binary point."""

NAN = math.nan

OPERATORS: Mapping[str, Callable[[int | str, int | str], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Compare:
    """A comparison of a data field with a constant."""

    field: str
    sign: str
    value: int | str

    def matches(self, event: Event) -> bool:
        present = event.data.get(self.field)
        return present is not None and OPERATORS[self.sign](present, self.value)


@dataclass(frozen=True)
class OfType:
    """The event is of this type."""

    type: str

    def matches(self, event: Event) -> bool:
        return event.type == self.type


@dataclass(frozen=True)
class Not:
    """Matches exactly where its condition does not."""

    of: Condition

    def matches(self, event: Event) -> bool:
        return not self.of.matches(event)


@dataclass(frozen=True)
class Both:
    """Matches where both conditions do."""

    left: Condition
    right: Condition

    def matches(self, event: Event) -> bool:
        return self.left.matches(event) and self.right.matches(event)


@dataclass(frozen=True)
class Either:
    """Matches where one condition does, or both."""

    left: Condition
    right: Condition

    def matches(self, event: Event) -> bool:
        return self.left.matches(event) or self.right.matches(event)


Condition = Compare | OfType | Not | Both | Either


@dataclass(frozen=True)
class Estimate:
    """A distinct count beyond its exact values: the true number, of which candor tells an estimate."""

    true: int


Value = float | Estimate


@dataclass(frozen=True)
class Aggregation:
    """An aggregation by its kind: `count`, `sum`, …, `last_k`, `ratio`, `decayed_sum`, `rate_of_change`."""

    kind: str
    name: str = ""
    field: str = ""
    where: Condition | None = None
    of: Aggregation | None = None
    to: Aggregation | None = None
    k: int = 0
    over: Literal["values", "events"] = "values"
    categories: tuple[str, ...] = ()
    exact: int = 128
    time: str = ""
    """The half-life of a decayed sum, the period of a rate of change."""


@dataclass(frozen=True)
class Window:
    """A window by its length, such as `7d` or `lifetime`, and the delay of its right edge."""

    length: str
    delay: str = ""

    @property
    def name(self) -> str:
        return f"{self.length}_delayed_{self.delay}" if self.delay else self.length


@dataclass(frozen=True)
class View:
    """A feature view."""

    name: str
    entity: str
    hot: bool
    types: tuple[str, ...]
    aggregations: tuple[Aggregation, ...]
    windows: tuple[Window, ...]
    expires_after: str = ""
    max_events: int | None = None
    """Most events of the longest window; None: the view has no exact windows."""

    @property
    def features(self) -> list[str]:
        return [f"{self.name}.{of.name}.{window.name}" for of in self.aggregations for window in self.windows]


@dataclass(frozen=True)
class Answer:
    """A view's answer at a moment: its state, and its values in the order of its features."""

    state: Literal["present", "absent", "unavailable"]
    values: tuple[Value, ...]


def milliseconds(text: str) -> int:
    """A length such as `7d` in milliseconds."""
    return int(text[:-1]) * UNITS[text[-1]]


def answer(view: View, arrived: Iterable[Event], token: str, q: int) -> Answer:
    """The view's features of the entity at `q`, of accepted events in order of arrival."""
    events, voids = first_copies(view, arrived, token)
    before = sorted((event for event in events if event.occurred_at < q), key=order)
    if overflows(view, before, q):
        return Answer("unavailable", (NAN,) * len(view.features))
    living = continued(view, before, q)
    counted = [event for event in living if voids.get(event.id, q) >= q]
    values = tuple(
        feature(view, of, window, counted, q) for of in view.aggregations for window in view.windows
    )
    return Answer("present" if living else "absent", values)


def first_copies(view: View, arrived: Iterable[Event], token: str) -> tuple[list[Event], dict[str, int]]:
    """Events of the view and entity, and moments of voids by the id that they name; the first copy counts."""
    events: dict[str, Event] = {}
    voids: dict[str, int] = {}
    for event in arrived:
        if event.type not in view.types or event.entities.get(view.entity) != token:
            continue
        if event.voided_at is None:
            events.setdefault(event.id, event)
        else:
            voids.setdefault(event.id, event.voided_at)
    return list(events.values()), voids


def order(event: Event) -> tuple[int, bytes]:
    """Later events are greater: by moment, then by the id's bytes."""
    return event.occurred_at, event.id.encode()


def overflows(view: View, before: Sequence[Event], q: int) -> bool:
    """True where the longest of exact windows holds more events than declared, voided ones included."""
    if view.max_events is None:
        return False
    longest = max(milliseconds(window.length) for window in view.windows)
    return sum(event.occurred_at >= q - longest for event in before) > view.max_events


def continued(view: View, before: Sequence[Event], q: int) -> list[Event]:
    """Events after the last gap longer than the view's expiry, which `q` may end; voided events fill gaps, too."""
    longest = expiry(view)
    living: list[Event] = []
    for event in before:
        if living and event.occurred_at - living[-1].occurred_at > longest:
            living = []
        living.append(event)
    return [] if living and q - living[-1].occurred_at > longest else living


def expiry(view: View) -> float:
    """Time (ms) for which a history counts that nothing continued."""
    if view.hot:
        return math.inf
    if view.expires_after:
        return milliseconds(view.expires_after)
    reach = (milliseconds(of.length) + hop(view, of) for of in view.windows if of.length != LIFETIME)
    return max([TWO_YEARS, *reach])


def hop(view: View, window: Window) -> int:
    """Steps (ms) in which a window's edge moves."""
    return (
        1
        if view.max_events is not None
        else step_of(window.delay if window.length == LIFETIME else window.length)
    )


def step_of(length: str) -> int:
    """The largest step of at most a 24th of a length, or the shortest."""
    return max([STEPS[0], *(step for step in STEPS if 24 * step <= milliseconds(length))])


def down(moment: int, step: int) -> int:
    """The moment on the grid of `step`, or the last before it."""
    return moment // step * step


def inside(view: View, window: Window, counted: Sequence[Event], q: int) -> list[Event]:
    """Events of a window at `q`."""
    if window.length == LIFETIME and not window.delay:
        return list(counted)
    step = hop(view, window)
    right = down(q - milliseconds(window.delay), step) if window.delay else q
    if window.length == LIFETIME:
        return [event for event in counted if event.occurred_at < right]
    delay = milliseconds(window.delay) if window.delay else 0
    left = down(q - delay - milliseconds(window.length), step)
    return [event for event in counted if left <= event.occurred_at < right]


def feature(view: View, of: Aggregation, window: Window, counted: Sequence[Event], q: int) -> Value:
    """The value of an aggregation over a window."""
    if of.kind == "rate_of_change":
        return rate_of_change(of, counted, q)
    return value(of, inside(view, window, counted, q), q)


def rate_of_change(of: Aggregation, counted: Sequence[Event], q: int) -> float:
    """By how much the last period differs from the one before, as a share of the latter."""
    assert of.of is not None
    period, step = milliseconds(of.time), step_of(of.time)
    middle, start = down(q - period, step), down(q - 2 * period, step)
    later = exact(of.of, [event for event in counted if middle <= event.occurred_at < q])
    earlier = exact(of.of, [event for event in counted if start <= event.occurred_at < middle])
    return float(Fraction(later - earlier, earlier)) if earlier else NAN


def exact(of: Aggregation, events: Sequence[Event]) -> int:
    """A count or a sum as an integer."""
    matching = filtered(of.where, events)
    return len(matching) if of.kind == "count" else sum(numbers(of.field, matching))


def value(of: Aggregation, events: Sequence[Event], q: int) -> Value:
    """The value of an aggregation of the events of a window, which are in order."""
    if of.kind == "ratio":
        return ratio(of, events, q)
    if of.kind == "last_k":
        return last_k(of, events)
    return SIMPLE[of.kind](of, filtered(of.where, events), q)


def ratio(of: Aggregation, events: Sequence[Event], q: int) -> float:
    """The first divided by the second; missing where the second is 0 or either is missing."""
    assert of.of is not None
    assert of.to is not None
    dividend, divisor = value(of.of, events, q), value(of.to, events, q)
    assert not isinstance(dividend, Estimate)
    assert not isinstance(divisor, Estimate)
    return NAN if divisor == 0 else dividend / divisor


def last_k(of: Aggregation, events: Sequence[Event]) -> float:
    """An aggregation of the latest k values, or of the values of the latest k events."""
    assert of.of is not None
    matching = filtered(of.of.where, events)
    if of.over == "values":
        return statistic(of.of.kind, numbers(of.of.field, matching)[-of.k :])
    return statistic(of.of.kind, numbers(of.of.field, matching[-of.k :]))


def filtered(where: Condition | None, events: Sequence[Event]) -> list[Event]:
    """Events that match."""
    return [event for event in events if where is None or where.matches(event)]


def numbers(field: str, events: Sequence[Event]) -> list[int]:
    """The values of a field, of the events that have it."""
    return [event.data[field] for event in events if event.data.get(field) is not None]


def statistic(kind: str, values: Sequence[int]) -> float:
    """A number made of numbers, exactly until the one division."""
    if kind == "sum":
        return float(sum(values))
    if not values:
        return NAN
    return float(STATISTICS[kind](values))


def variance(values: Sequence[int]) -> Fraction:
    """The population's variance."""
    size, total = len(values), sum(values)
    return Fraction(size * sum(number * number for number in values) - total * total, size * size)


STATISTICS: Mapping[str, Callable[[Sequence[int]], int | Fraction]] = {
    "mean": lambda values: Fraction(sum(values), len(values)),
    "variance": variance,
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}
"""Exact result over at least one number."""


def of_numbers(of: Aggregation, events: Sequence[Event], _q: int) -> float:
    return statistic(of.kind, numbers(of.field, events))


def count(_of: Aggregation, events: Sequence[Event], _q: int) -> float:
    return float(len(events))


def time_since_last(_of: Aggregation, events: Sequence[Event], q: int) -> float:
    return float(Fraction(q - events[-1].occurred_at, SECONDS)) if events else NAN


def distinct(of: Aggregation, events: Sequence[Event], _q: int) -> Value:
    different = len({event.data[of.field] for event in events if event.data.get(of.field) is not None})
    return float(different) if different <= of.exact else Estimate(different)


def last_category(of: Aggregation, events: Sequence[Event], _q: int) -> float:
    texts = [event.data[of.field] for event in events if event.data.get(of.field) is not None]
    if not texts:
        return NAN
    return float(of.categories.index(texts[-1])) if texts[-1] in of.categories else -1.0


def decayed_sum(of: Aggregation, events: Sequence[Event], q: int) -> float:
    """Amounts that count half as much with every half-life of age, in eighths of it on a fixed grid."""
    grid = Fraction(milliseconds(of.time), 8)
    total = Fraction(0)
    for event in events:
        if event.data.get(of.field) is not None:
            total += event.data[of.field] * weight(q // grid - event.occurred_at // grid)
    return float(total)


def weight(age: int) -> Fraction:
    """2^(−age/8), rounded to 32 digits after the binary point."""
    halvings, eighths = divmod(age, 8)
    return Fraction(round(math.ldexp(2.0 ** (-eighths / 8), DIGITS - halvings)), 2**DIGITS)


SIMPLE: Mapping[str, Callable[[Aggregation, Sequence[Event], int], Value]] = {
    "count": count,
    "sum": of_numbers,
    "mean": of_numbers,
    "variance": of_numbers,
    "min": of_numbers,
    "max": of_numbers,
    "first": of_numbers,
    "last": of_numbers,
    "time_since_last": time_since_last,
    "distinct": distinct,
    "last_category": last_category,
    "decayed_sum": decayed_sum,
}


def refused(event: Event, now: int) -> bool:
    """True for an event that is dated more than five minutes ahead of the clock."""
    return max(event.occurred_at, event.voided_at or 0) > now + MAX_SKEW
