"""Reads under clock skew: share of unavailable views, and exactness of the available ones.

Time is simulated. Events enter a queue as envelopes; its mapping batches them as the deployed one does (100
messages, or those of a second); `ingest_messages` applies them or returns them with a delay; `online_features`
reads at the scorer's clock. Answers are compared with the naive oracle over the applied events before the moment.

History that is loaded at once and read at each event's own moment is not live: items answer little of it, and the
as-of engine behind `candor features as-of` answers all of it.
"""

from __future__ import annotations

import gzip
import operator
import random
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from heapq import heappop, heappush
from typing import Final, NamedTuple

import numpy as np

from benchmarks.rounds import Measurement
from candor import (
    Count,
    Definitions,
    Distinct,
    Entity,
    EventType,
    FeatureView,
    LastK,
    Max,
    Mean,
    Money,
    Sum,
    Text,
    TimeSinceLast,
    type_is,
)
from candor.clock import DAY, MINUTE, SECOND, FixedClock, format_rfc3339
from candor.contracts import HISTORY, Event, encode_event, parse_envelope
from candor.edge.messages import Message, ingest_messages
from candor.features.segment import MOST_RAW
from candor.online import MemoryFeatureStore, OnlineFeatures, Retention, online_features
from history.archive.events import accepted_events, read_envelopes
from history.asof.point_in_time import features_of
from simulation.oracle import expected

UNAVAILABLE_BUDGET: Final = 1
"""Highest per cent of unavailable views in live reads."""

TOKEN: Final = "e-1"
START: Final = 1_795_000_000_000
STEP: Final = 10
"""Step of the simulated clock (ms)."""

BATCH: Final = 100
GATHERING: Final = SECOND
"""Batch size and batching window (ms) of the queue's mapping, as in `stacks/ingestion.py`."""

RETENTION: Final = Retention(event_ids=19 * DAY)
BEFORE: Final = 40
"""Daily events of the entity before anything is live: its items are folded from the first read on."""

CARD: Final = Entity("card", "checkout.applicant.token")
TERMINAL: Final = Entity("terminal", "merchant_id", hot=True)
KINDS: Final = [
    EventType(name, [CARD, TERMINAL], {"amount": Money(), "category": Text()})
    for name in ("card.used", "card.refused")
]
VIEWS: Final = [
    FeatureView(
        "card_spending",
        CARD,
        KINDS,
        [Count(), Sum("amount"), Mean("amount"), Max("amount"), Distinct("category"), TimeSinceLast()],
        ["1h", "24h", "30d"],
    ),
    FeatureView(
        "card_velocity",
        CARD,
        KINDS,
        [Count(), Count(where=type_is("card.refused"), name="refused"), LastK(Mean("amount"), 3)],
        ["1m", "10m"],
    ),
    FeatureView(
        "terminal_traffic",
        TERMINAL,
        KINDS,
        [Count(), Sum("amount"), Max("amount"), Distinct("category")],
        ["10m", "24h", "30d"],
    ),
]
DEFINITIONS: Final = Definitions(entities=[CARD, TERMINAL], events=KINDS, views=VIEWS)


class Scenario(NamedTuple):
    """Traffic of one entity; lag of the scorer's clock (`behind`) and lead of the producer's (`ahead`), in ms."""

    name: str
    per_second: int
    behind: int = 0
    ahead: int = 0
    entity: Entity = CARD

    @property
    def entities(self) -> dict[str, str]:
        """Entity whose views are read, as in an event's `entities`."""
        return {self.entity.name: TOKEN}


LIVE: Final = (
    Scenario("1 event/s, scorer 60 s behind", 1, behind=60 * SECOND),
    Scenario("hot, 100 events/s, scorer 2 s behind", 100, behind=2 * SECOND, entity=TERMINAL),
    Scenario("5 events/s, producer 30 s ahead", 5, ahead=30 * SECOND),
    Scenario("20 events/s, producer 10 s ahead", 20, ahead=10 * SECOND),
    Scenario("hot, 150 events/s, 2 s behind and 10 s ahead", 150, 2 * SECOND, 10 * SECOND, TERMINAL),
)
CROWD: Final = Scenario("not hot, 100 events/s, scorer 2 s behind", 100, behind=2 * SECOND)
"""Traffic too dense for one item: over 128 (raw) events follow each read moment. Hot entities have four items."""


class ReadCounts(NamedTuple):
    """Counts of the views that were read."""

    reads: int
    unavailable: int
    compared: int
    different: int

    def plus(self, other: ReadCounts) -> ReadCounts:
        return ReadCounts(*map(operator.add, self, other))


NOTHING: Final = ReadCounts(0, 0, 0, 0)


def measure() -> Iterator[Measurement]:
    """Per cent of views that are unavailable, and per cent of those compared that differ from the oracle."""
    for scenario in LIVE:
        yield from _rows(scenario.name, live(scenario), UNAVAILABLE_BUDGET)
    yield from _rows(CROWD.name, live(CROWD))
    for events in (32, 33):
        for back, name in ((2 * DAY, "2 d"), (6 * MINUTE, "6 min"), (5 * MINUTE, "5 min")):
            unavailable = 0 if daily(events, back) else 100
            yield _row(f"{events} daily events, {name} before the newest: unavailable", unavailable)
    online, as_of = loaded()
    yield from _rows("loaded, at each event's moment, online", online)
    yield from _rows("loaded, at each event's moment, as of", as_of, 0)


def _rows(name: str, tally: ReadCounts, budget: float | None = None) -> Iterator[Measurement]:
    unavailable = 100 * tally.unavailable / tally.reads
    yield _row(f"{name}: unavailable of {tally.reads:,} views read", unavailable, budget)
    if tally.compared:
        different = 100 * tally.different / tally.compared
        yield _row(f"{name}: different from the oracle, of {tally.compared:,} compared", different, 0)


def _row(name: str, value: float, budget: float | None = None) -> Measurement:
    return Measurement("clocks", name, value, unit="%", budget=budget)


class SimulatedQueue:
    """Queue, mapping, updater and store under one correct clock."""

    def __init__(self) -> None:
        self.store = MemoryFeatureStore()
        self.clock = FixedClock(START)
        self.applied: list[Event] = []
        self._queue: list[tuple[int, int, Message]] = []
        self._gathered: list[Message] = []
        self._gathering_since = 0
        self._sent = 0

    def send(self, event: Event, source: str = "candor.bench") -> None:
        """Send the event's envelope to the queue."""
        self._put(Message(event.id, envelope(event, source)), 0)

    def step(self) -> None:
        """Deliver the mapping's messages if they fill a batch or are a second old."""
        now = self.clock.now_ms()
        while self._queue and self._queue[0][0] <= now:
            if not self._gathered:
                self._gathering_since = now
            self._gathered.append(heappop(self._queue)[2])
            if len(self._gathered) == BATCH:
                self._update()
        if self._gathered and now - self._gathering_since >= GATHERING:
            self._update()

    def drain(self) -> None:
        """Step until the queue is empty."""
        while self._queue or self._gathered:
            self.step()
            self.clock.advance(GATHERING)

    def _update(self) -> None:
        batch, self._gathered = self._gathered, []
        outcome = ingest_messages(batch, DEFINITIONS, self.store, self.clock, RETENTION)
        if outcome.refused or outcome.failed:
            raise RuntimeError(f"{len(outcome.refused)} refused, {len(outcome.failed)} failed: none must be")
        for message, wait_s in outcome.early:
            self._put(message, wait_s * SECOND)
        returned = {message.id for message, _ in outcome.early}
        self.applied += [parse_envelope(message.body) for message in batch if message.id not in returned]

    def _put(self, message: Message, delay: int) -> None:
        self._sent += 1
        heappush(self._queue, (self.clock.now_ms() + delay, self._sent, message))


def envelope(event: Event, source: str) -> bytes:
    """Envelope of the event, as the bus delivers it."""
    return b'{"time":"%b","source":"%b","detail":%b}' % (
        format_rfc3339(START).encode(),
        source.encode(),
        encode_event(event),
    )


def live(scenario: Scenario, *, length: int = MINUTE, reads: int = 1_000, compare: int = 40) -> ReadCounts:
    """Read during `length` ms of live traffic, after a warm-up in which the skew takes effect."""
    rng = random.Random(1)
    queue = _with_history(scenario, rng)
    warm = scenario.behind + scenario.ahead + (MOST_RAW // scenario.per_second + 5) * SECOND
    wanted = Counter(START + warm + rng.randrange(length // STEP) * STEP for _ in range(reads))
    compared = set(rng.sample(range(reads), min(compare, reads)))
    tally, number = NOTHING, 0
    for now in range(START, START + warm + length, STEP):
        for event in _sent_between(scenario, now, now + STEP, rng):
            queue.send(event)
        queue.step()
        for _ in range(wanted[now]):
            q = now - scenario.behind + rng.randrange(STEP)
            tally = tally.plus(_read(queue, scenario.entities, q, compare=number in compared))
            number += 1
        queue.clock.advance(STEP)
    return tally


def _read(queue: SimulatedQueue, entities: dict[str, str], q: int, *, compare: bool) -> ReadCounts:
    """Read the views of these entities at `q` (ms) and compare them if `compare`."""
    features = online_features(DEFINITIONS, queue.store, entities, q)
    views = [view for view in VIEWS if view.entity.name in entities]
    answered = [view for view in views if features.states[view.name] != "unavailable"]
    compared = answered if compare else []
    different = sum(_differs(view, features, queue.applied, q) for view in compared)
    return ReadCounts(len(views), len(views) - len(answered), len(compared), different)


def daily(events: int, back: int) -> bool:
    """True if an item of `events` daily events can answer `back` ms before the newest."""
    queue, rng, card = SimulatedQueue(), random.Random(1), {CARD.name: TOKEN}
    for days in range(events):
        queue.send(_event(f"daily-{days}", START - (events - 1 - days) * DAY, card, rng), HISTORY)
    queue.drain()
    return _read(queue, card, START - back, compare=False).unavailable == 0


def loaded(*, events: int = 600, compare: int = 40) -> tuple[ReadCounts, ReadCounts]:
    """Read views at the moment of every event of a loaded year: online, and as-of from the archive."""
    rng = random.Random(1)
    entities = {entity.name: TOKEN for entity in (CARD, TERMINAL)}
    moments = sorted(rng.sample(range(START - 365 * DAY, START), events))
    history = [_event(f"loaded-{number}", at, entities, rng) for number, at in enumerate(moments)]
    queue = SimulatedQueue()
    for event in history:
        queue.send(event, HISTORY)
    queue.drain()
    compared = rng.sample(range(events), min(compare, events))
    reads = (_read(queue, entities, q, compare=row in compared) for row, q in enumerate(moments))
    return reduce(ReadCounts.plus, reads), _as_of(_archived(history), moments, compared)


def _archived(history: Sequence[Event]) -> list[Event]:
    """Events after a round trip through the archive."""
    lines = b"\n".join(envelope(event, HISTORY) for event in history)
    return list(accepted_events(read_envelopes([("events/1.gz", gzip.compress(lines))]), DEFINITIONS))


def _as_of(events: Sequence[Event], moments: Sequence[int], compared: Sequence[int]) -> ReadCounts:
    """Read with the engine behind `candor features as-of`. A view whose counts are missing is unavailable."""
    tally = NOTHING
    for view in VIEWS:
        values = features_of(view, DEFINITIONS, events, [(TOKEN, q) for q in moments])
        counts = [
            index for index, feature in enumerate(view.features) if feature.name.split(".")[1] == "count"
        ]
        answered = int(np.sum(~np.isnan(values[:, counts]).any(axis=1)))
        different = sum(
            not _equal(values[row].tolist(), expected(view, events, TOKEN, moments[row])) for row in compared
        )
        tally = tally.plus(ReadCounts(len(moments), len(moments) - answered, len(compared), different))
    return tally


def _with_history(scenario: Scenario, rng: random.Random) -> SimulatedQueue:
    """Queue and store after `BEFORE` daily events of the entity."""
    queue = SimulatedQueue()
    for days in range(BEFORE, 0, -1):
        queue.send(_event(f"before-{days}", START - days * DAY, scenario.entities, rng), source=HISTORY)
    queue.drain()
    queue.clock = FixedClock(START)
    return queue


def _sent_between(scenario: Scenario, start: int, end: int, rng: random.Random) -> Iterator[Event]:
    """Events sent between two moments (ms), dated by the producer's clock."""
    since = [(moment - START) * scenario.per_second for moment in (start, end)]
    for number in range(*(-(-events // SECOND) for events in since)):
        at = START + number * SECOND // scenario.per_second + scenario.ahead
        yield _event(f"live-{number}", at, scenario.entities, rng)


def _event(event_id: str, at: int, entities: dict[str, str], rng: random.Random) -> Event:
    kind = rng.choices(KINDS, [9, 1])[0].name
    data = {"amount": rng.randrange(100, 100_000), "category": f"category-{rng.randrange(12)}"}
    return Event(event_id, kind, at, entities, data)


def _differs(view: FeatureView, features: OnlineFeatures, applied: Sequence[Event], q: int) -> bool:
    """True if the values of a view differ from the oracle's."""
    values = [features.values[feature.name] for feature in view.features]
    return not _equal(values, expected(view, applied, TOKEN, q))


def _equal(values: Sequence[float], others: Sequence[float]) -> bool:
    return array("d", values).tobytes() == array("d", others).tobytes()
