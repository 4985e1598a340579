"""Random plans of worlds: what is declared, what arrives when and in which batches, and which questions are asked."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from candor import Event
from candor.clock import DAY, HOUR, MINUTE, SECOND
from candor.errors import DefinitionError
from tests.worlds.declared import ENTITIES, definitions
from tests.worlds.oracle import (
    LIFETIME,
    MAX_SKEW,
    Aggregation,
    Both,
    Compare,
    Condition,
    Either,
    Not,
    OfType,
    View,
    Window,
    down,
    expiry,
    hop,
    milliseconds,
    step_of,
)

EPOCH = 20_833 * DAY
SPANS = (20 * MINUTE, 3 * HOUR, 2 * DAY, 20 * DAY, 150 * DAY)
GRIDS = (1, SECOND, 10 * SECOND, MINUTE, 15 * MINUTE, HOUR)
LATEST_COPY = 11 * DAY
"""Greatest delay (ms) of a copy of an event: within the horizon of ids, whatever its batch adds."""

LONGEST_BATCH = DAY
"""Longest wait (ms) of a batch for more events."""

HORIZON = 14 * DAY
NUMERIC = ("sum", "mean", "variance", "min", "max", "first", "last")
OF_LATEST = ("sum", "mean", "variance", "min", "max")
HALF_LIVES = ("1m", "10m", "1h", "6h", "24h", "7d", "30d")
WINDOWS = (
    *("1m", "90s", "4m", "10m", "25m", "1h", "2h", "6h", "9h", "24h", "60h"),
    *("7d", "14d", "30d", "45d", "90d", "168d", "200d", "365d", "672d", "731d"),
)
RATES = {
    "1m": "4m",
    "4m": "10m",
    "10m": "25m",
    "1h": "2h",
    "6h": "24h",
    "7d": "14d",
    "30d": "90d",
    "168d": "365d",
}
"""Windows that hold two periods of a rate of change and at most four, by period."""

METHODS = ("card", "bank", "cash", "voucher", "", "Überweisung")
BATCHES = (1, 4, 12, 30, 80)


@dataclass(frozen=True)
class Apply:
    """A batch of events that is applied at a moment (ms)."""

    at: int
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Question:
    """Tokens by entity, and the moment `q` of which features are asked."""

    entities: dict[str, str]
    q: int


@dataclass(frozen=True)
class Ask:
    """Questions at a moment (ms)."""

    at: int
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Plan:
    """A world before it is lived through."""

    seed: int
    views: tuple[View, ...]
    steps: tuple[Apply | Ask, ...]


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)
    span = rng.choice(SPANS)
    views = declared(rng, span)
    tokens = {name: [f"{name}{number}" for number in range(rng.randint(1, 2))] for name in ENTITIES}
    if rng.random() < 0.1:
        tokens["customer"][0] = "c#/1"
    start = EPOCH + rng.randrange(60 * DAY)
    batches = batched(rng, arrivals(rng, views, span, start, tokens))
    return Plan(seed, views, tuple(steps(rng, views, batches, tokens, span)))


# ------------------------------------------------------------------------------------------- declarations


def declared(rng: random.Random, span: int) -> tuple[View, ...]:
    """Views that candor accepts."""
    while True:
        views = tuple(view(rng, span, f"v{number}") for number in range(rng.randint(1, 3)))
        try:
            definitions(views)
        except DefinitionError:
            continue
        return views


def view(rng: random.Random, span: int, name: str) -> View:
    """A view, mostly of windows about as long as the world."""
    entity = "shop" if rng.random() < 0.3 else "customer"
    hot = ENTITIES[entity].hot
    types = rng.choice([("paid",), ("paid", "failed"), ("paid", "failed")])
    exact = not hot and rng.random() < 0.2
    if not exact and rng.random() < 0.15:
        return View(name, entity, hot, types, *of_rates(rng, types))
    windows = tuple(dict.fromkeys(window(rng, span, exact=exact) for _ in range(rng.randint(1, 3))))
    kinds = tuple(aggregation(rng, types, windows, f"a{number}") for number in range(rng.randint(1, 4)))
    most = rng.choice([5, 40, 200]) if exact else None
    return View(name, entity, hot, types, kinds, windows, expires_after(rng, windows, hot, exact), most)


def of_rates(
    rng: random.Random, types: tuple[str, ...]
) -> tuple[tuple[Aggregation, ...], tuple[Window, ...]]:
    """Rates of change, and the window that they need."""
    period = rng.choice(list(RATES))
    rates = [
        Aggregation("rate_of_change", f"a{number}", of=counted(rng, types), time=period)
        for number in range(rng.randint(1, 2))
    ]
    return (*rates, Aggregation("max", "highest", field="amount")), (Window(RATES[period]),)


def counted(rng: random.Random, types: tuple[str, ...]) -> Aggregation:
    """A count or a sum."""
    where = condition(rng, types)
    return rng.choice([Aggregation("count", where=where), Aggregation("sum", field="amount", where=where)])


def divided(rng: random.Random, types: tuple[str, ...]) -> Aggregation:
    """The parts of a ratio: mostly counts and sums."""
    if rng.random() < 0.7:
        return counted(rng, types)
    return Aggregation(rng.choice(NUMERIC), field="amount", where=condition(rng, types))


def window(rng: random.Random, span: int, *, exact: bool) -> Window:
    """A window; those of about the span, or of a fraction of it, come more often."""
    fitting = [name for name in WINDOWS if span / 100 <= milliseconds(name) <= 2 * span] or ["10m"]
    length = rng.choice(fitting if rng.random() < 0.8 else list(WINDOWS))
    if exact:
        return Window(length)
    if rng.random() < 0.25:
        length = LIFETIME
    delay = rng.choice(fitting) if rng.random() < 0.2 else ""
    return Window(length, delay)


def expires_after(rng: random.Random, windows: Sequence[Window], hot: bool, exact: bool) -> str:
    """Mostly nothing; of a lifetime window often some time that every other window fits into."""
    if hot or exact or rng.random() < 0.4 or all(of.length != LIFETIME for of in windows):
        return ""
    reach = [
        milliseconds(of.length) + step_of(of.length) + (milliseconds(of.delay) if of.delay else 0)
        for of in windows
        if of.length != LIFETIME
    ]
    fitting = [
        text for text in ("1h", "5h", "1d", "4d", "25d", "200d") if milliseconds(text) >= max([0, *reach])
    ]
    return rng.choice(fitting[:2]) if fitting else ""


def aggregation(
    rng: random.Random, types: tuple[str, ...], windows: Sequence[Window], name: str
) -> Aggregation:
    """An aggregation of any kind but a rate of change."""
    where = condition(rng, types)
    number = rng.choice(["amount", "amount", "days"])
    counted_field, exact = rng.choice(["method", "amount", "days"]), rng.choice([4, 20, 128])
    latest = Aggregation(rng.choice(OF_LATEST), field=number, where=where)
    k, over = rng.randint(1, 16), rng.choice(["values", "events"])
    numeric = [Aggregation(kind, name, field=number, where=where) for kind in NUMERIC]
    kinds = [
        *numeric,
        Aggregation("count", name, where=where),
        Aggregation("time_since_last", name, where=where),
        Aggregation("distinct", name, field=counted_field, where=where, exact=exact),
        Aggregation("last_category", name, field="method", where=where, categories=("bank", "card")),
        Aggregation("last_k", name, of=latest, k=k, over=over),
        Aggregation("last_k", name, of=latest, k=k, over=over),
        Aggregation("ratio", name, of=divided(rng, types), to=divided(rng, types)),
    ]
    if all(of.length != LIFETIME for of in windows):
        longest = max(milliseconds(of.length) for of in windows)
        lives = [text for text in HALF_LIVES if longest <= 16 * milliseconds(text)]
        kinds += [
            Aggregation("decayed_sum", name, field=number, where=where, time=text) for text in lives[:1]
        ]
    return rng.choice(kinds)


def condition(rng: random.Random, types: tuple[str, ...], depth: int = 0) -> Condition | None:
    """Mostly no filter."""
    return None if rng.random() < 0.5 else condition_of(rng, types, depth)


def condition_of(rng: random.Random, types: tuple[str, ...], depth: int) -> Condition:
    """A filter of comparisons, types and their combinations."""
    if depth < 2 and rng.random() < 0.4:
        left = condition_of(rng, types, depth + 1)
        if rng.random() < 0.4:
            return Not(left)
        return rng.choice([Both, Either])(left, condition_of(rng, types, depth + 1))
    match rng.choice(["number", "number", "text", "type"]):
        case "number":
            return Compare(rng.choice(["amount", "days"]), rng.choice(["==", "!=", "<", "<=", ">", ">="]), 3)
        case "text":
            return Compare("method", rng.choice(["==", "!="]), rng.choice(["card", "bank"]))
    return OfType(rng.choice(types))


# ------------------------------------------------------------------------------------------------ traffic


@dataclass(frozen=True)
class Arrival:
    """An event, and when (ms) it arrives."""

    at: int
    event: Event


def arrivals(
    rng: random.Random, views: Sequence[View], span: int, start: int, tokens: dict[str, list[str]]
) -> list[Arrival]:
    """All that arrives, in order."""
    moments = [start + rng.randrange(span) for _ in range(rng.choice([8, 25, 60, 120]))]
    if rng.random() < 0.3:
        moments += burst(rng, start + rng.randrange(span))
    moments += gaps(rng, views, moments)
    grid, amount = rng.choice(GRIDS), amounts(rng)
    make = functools.partial(event, rng, tokens, amount, narrow=rng.random() < 0.5)
    coming: list[Arrival] = []
    voiding = rng.choice([0.0, 0.1, 0.3])
    for number, moment in enumerate(moments):
        happened = make(number, down(moment, grid) if rng.random() < 0.5 else moment)
        first = Arrival(arriving(rng, happened.occurred_at, span), happened)
        coming.append(first)
        if rng.random() < 0.12:
            coming.append(copied(rng, first, amount))
        if rng.random() < voiding:
            coming += voided(rng, first, span, amount)
    if rng.random() < 0.15:
        coming += reversed_together(rng, coming, start + rng.randrange(span))
    return sorted(coming, key=lambda arrival: arrival.at)


def gaps(rng: random.Random, views: Sequence[View], moments: Sequence[int]) -> list[int]:
    """Moments that end a gap as long as a view's expiry, or a millisecond or seconds longer."""
    lengths = [milliseconds(of.expires_after) for of in views if of.expires_after]
    latest = max(moments)
    return [
        rng.choice([latest, rng.choice(moments)]) + length + rng.choice([0, 1, rng.randrange(10 * SECOND)])
        for length in lengths
        for _ in range(2)
    ]


def reversed_together(rng: random.Random, coming: Sequence[Arrival], at: int) -> list[Arrival]:
    """Many voids of about the same moment (ms), of events that came before it."""
    earlier = [arrival.event for arrival in coming if arrival.at < at and arrival.event.voided_at is None]
    named = rng.sample(earlier, min(len(earlier), rng.randint(15, 45)))
    voids = [of.void(max(of.occurred_at, at + rng.randrange(2 * MINUTE))) for of in named]
    return [Arrival((of.voided_at or 0) + rng.randrange(5 * SECOND), of) for of in voids]


def burst(rng: random.Random, begin: int) -> list[int]:
    """Moments of many events within a short time."""
    length = rng.choice([SECOND, MINUTE, 8 * MINUTE])
    return [begin + rng.randrange(length) for _ in range(rng.choice([50, 150, 330]))]


def amounts(rng: random.Random):
    """The distribution of amounts in this world."""
    most = rng.choice([5, 1_000, 10**12])
    return lambda: rng.randint(-most // 3, most)


def event(
    rng: random.Random, tokens: dict[str, list[str]], amount, number: int, moment: int, *, narrow: bool
) -> Event:
    """An event at a moment; of a narrow world's events most name the same entity."""
    entities = {
        name: rng.choice(of[:1] if narrow and rng.random() < 0.9 else of) for name, of in tokens.items()
    }
    name = f"{rng.choice(['a', 'b', 'Z', 'é', '#'])}{number}"
    if rng.random() < 0.3:
        return Event(
            name, "failed", moment, entities, {"amount": amount(), "method": rng.choice(["card", "bank"])}
        )
    drawn = {"amount": amount(), "days": rng.randint(-3, 30), "method": rng.choice(METHODS)}
    data = {key: value for key, value in drawn.items() if rng.random() < 0.85}
    if rng.random() < 0.05:
        data["amount"] = None
    return Event(name, "paid", moment, entities, data)


def arriving(rng: random.Random, moment: int, span: int) -> int:
    """When an event of this moment arrives: mostly at once, or late by minutes or much more, or too early."""
    match rng.choices(["soon", "late", "very late", "early", "too early"], [70, 12, 10, 5, 1])[0]:
        case "soon":
            return moment + rng.randrange(5 * SECOND)
        case "late":
            return moment + rng.randrange(20 * MINUTE)
        case "very late":
            return moment + rng.randrange(span)
        case "early":
            return moment - rng.randint(0, MAX_SKEW)
    return moment - MAX_SKEW - rng.randint(1, 3 * MINUTE)


def copied(rng: random.Random, first: Arrival, amount) -> Arrival:
    """A copy of an arrival, in some cases with other data or another moment."""
    copy = differing(rng, first.event, amount) if rng.random() < 0.3 else first.event
    return Arrival(first.at + rng.randrange(rng.choice([MINUTE, LATEST_COPY])), copy)


def differing(rng: random.Random, of: Event, amount) -> Event:
    """The event with another amount, another moment, or both."""
    moment = of.occurred_at - rng.randrange(10 * MINUTE) if rng.random() < 0.6 else of.occurred_at
    data = {**of.data, "amount": amount()} if rng.random() < 0.6 else of.data
    return replace(of, occurred_at=moment, data=data)


def voided(rng: random.Random, first: Arrival, span: int, amount) -> list[Arrival]:
    """Voids of an event: before it or after it, of an event that never comes, differing, or twice."""
    named = first.event
    if rng.random() < 0.15:
        named = replace(named, id=f"{named.id}-never")
    if rng.random() < 0.25:
        named = differing(rng, named, amount)
    after = rng.choice([0, rng.randrange(MINUTE), rng.randrange(HOUR), rng.randrange(span)])
    voids = [named.void(named.occurred_at + after)]
    if rng.random() < 0.2:
        voids.append(named.void(named.occurred_at + rng.randrange(span)))
    # A void that is dated long before its event is a test of its own.
    earliest = first.event.occurred_at - MAX_SKEW
    voids = [replace(of, voided_at=max(of.voided_at or 0, earliest)) for of in voids]
    return [Arrival((of.voided_at or 0) + delay_of_void(rng, span), of) for of in voids]


def delay_of_void(rng: random.Random, span: int) -> int:
    """Delay (ms) of a void after its moment; some come before it."""
    return rng.choice([0, rng.randrange(10 * SECOND), rng.randrange(span), -rng.randint(0, MAX_SKEW)])


def batched(rng: random.Random, coming: Sequence[Arrival]) -> list[Apply]:
    """Arrivals in batches, each applied when its last event has arrived; some batches come again."""
    batches: list[Apply] = []
    place, size = 0, rng.choice(BATCHES)
    while place < len(coming):
        page = coming[place : place + rng.randint(1, size)]
        page = [arrival for arrival in page if arrival.at <= page[0].at + LONGEST_BATCH]
        batches.append(Apply(page[-1].at, tuple(arrival.event for arrival in page)))
        place += len(page)
    again = [Apply(of.at + rng.randrange(DAY), of.events) for of in batches if rng.random() < 0.03]
    return sorted([*batches, *again], key=lambda batch: batch.at)


# ---------------------------------------------------------------------------------------------- questions


def steps(
    rng: random.Random,
    views: Sequence[View],
    batches: Sequence[Apply],
    tokens: dict[str, list[str]],
    span: int,
) -> list[Apply | Ask]:
    """Batches, and between them questions."""
    asking = {rng.randrange(len(batches)) for _ in range(5)} | {len(batches) - 1}
    planned: list[Apply | Ask] = []
    for place, batch in enumerate(batches):
        planned.append(batch)
        if place in asking:
            following = batches[place + 1].at if place + 1 < len(batches) else batch.at + span
            at = batch.at + 1 + (rng.randrange(following - batch.at) if following > batch.at else 0)
            at = at if at <= following else batch.at + 1
            events = [event for of in batches[max(0, place - 8) : place + 1] for event in of.events]
            planned.append(Ask(at, tuple(questions(rng, views, events, tokens, at, span))))
    return sorted(planned, key=lambda step: step.at)


def questions(
    rng: random.Random,
    views: Sequence[View],
    events: Sequence[Event],
    tokens: dict[str, list[str]],
    at: int,
    span: int,
) -> list[Question]:
    """Questions of the present, of moments around it, and of edges."""
    moments = [
        at,
        at,
        at - rng.randrange(MAX_SKEW),
        moment_of(rng, rng.choice(events)),
        at + rng.randrange(span),
    ]
    voids = [event.moment for event in events if event.voided_at is not None]
    moments += [rng.choice(voids) + rng.choice([-rng.randrange(MINUTE), 0, 1])] if voids else []
    moments += [edge(rng, rng.choice(views), rng.choice(events)) for _ in range(4)]
    return [Question({name: rng.choice([*of, of[0]]) for name, of in tokens.items()}, q) for q in moments]


def moment_of(rng: random.Random, of: Event) -> int:
    """A moment at which an event or a void begins to count, or the millisecond after."""
    return rng.choice([of.occurred_at, of.voided_at or of.occurred_at]) + rng.choice([0, 1])


def edge(rng: random.Random, of: View, event: Event) -> int:
    """A moment at which an event leaves or enters a window, or its history expires, or the millisecond before."""
    window = rng.choice(of.windows)
    if window.length == LIFETIME and not window.delay:
        limit = expiry(of)
        return event.occurred_at + (int(limit) if limit < 1_000 * DAY else 1) + rng.choice([0, 1])
    step = hop(of, window)
    delay = milliseconds(window.delay) if window.delay else 0
    length = 0 if window.length == LIFETIME or (delay and rng.random() < 0.5) else milliseconds(window.length)
    return down(event.occurred_at, step) + step + delay + length - rng.choice([0, 0, 1])
