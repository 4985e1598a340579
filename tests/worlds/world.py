"""A random world: events arrive, stale items are healed, and every answer is compared with oracle and archive."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from msgspec.structs import replace

from candor import Definitions, Event
from candor.clock import MINUTE, SECOND, FixedClock
from candor.online import MemoryFeatureStore, Retention, ingest, online_features
from history.offline import Knowledge, begin_healing, event_table, heal, historical_features
from tests.worlds import oracle
from tests.worlds.declared import ENTITIES, definitions
from tests.worlds.oracle import Answer, Estimate, View
from tests.worlds.plan import HORIZON, Apply, Plan, Question, draw

YOUNG = 5 * MINUTE
CROWD = 128
"""Events that are younger than `YOUNG`, of which so many at most leave all of that time answered."""

VOIDS = 20
"""Voids that are younger than `YOUNG`, of which fewer leave all of that time answered."""

RAW = 32
"""Events of an item of which nothing is folded yet."""

ARCHIVE_LAG, RETRY, LATEST_ARCHIVE = 150 * SECOND, 60 * SECOND, 300 * SECOND
"""When the worker looks into the archive first, when again, and when the archive holds a commit at the latest."""

STANDARD_ERROR = 0.0325

Oracle = Callable[[View, Sequence[Event], str, int], Answer]


@dataclass(frozen=True)
class Difference:
    """Two answers that should be equal."""

    seed: int
    what: str
    view: str
    token: str
    q: int
    clock: int
    expected: str
    actual: str


@dataclass
class Result:
    """Observations of a world."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    healing_s: list[float] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True)
class Read:
    """A view's answers to a question, and how many events had arrived by then."""

    view: View
    token: str
    q: int
    clock: int
    knowing: int
    wanted: Answer
    state: str
    values: list[float]


class RecordingStore(MemoryFeatureStore):
    """A store that keeps the ids of each item's commits, as the log of commits does."""

    def __init__(self) -> None:
        super().__init__()
        self.log: defaultdict[str, list[str]] = defaultdict(list)

    def commit(self, commit):
        outcome = super().commit(commit)
        if getattr(outcome, "version", None) is not None:
            self.log[commit.key] += commit.event_ids
        return outcome


def live(plan: Plan, answer: Oracle = oracle.answer) -> Result:
    """Live through a plan."""
    world = World(plan, answer)
    world.run()
    return world.result


def live_seed(seed: int) -> Result:
    """Live through the world of a seed."""
    return live(draw(seed))


class World:
    """The store, its clock, what has arrived, and what is due."""

    def __init__(self, plan: Plan, answer: Oracle) -> None:
        self.result = Result(plan.seed)
        self._plan = plan
        self._answer = answer
        self._rng = random.Random(f"healing {plan.seed}")
        self._definitions: Definitions = definitions(plan.views)
        self._store = RecordingStore()
        self._clock = FixedClock(0)
        self._arrived: list[Event] = []
        self._by_id: dict[str, Event] = {}
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._open: dict[str, int] = {}
        self._ever_stale: set[str] = set()
        self._healed: set[tuple[str, str]] = set()
        self._reads: list[Read] = []
        self._too_late: set[str] = set()

    def run(self) -> None:
        """Take all steps, and those of healing between them; then ask once more, and what was known at each moment."""
        for step in self._plan.steps:
            self._at(
                step.at,
                lambda step=step: (
                    self._apply(step) if isinstance(step, Apply) else self._ask(step.questions, planned=True)
                ),
            )
        while self._due:
            moment, _, action = heapq.heappop(self._due)
            self._clock.advance(moment - self._clock.now_ms())
            action()
        self._end()
        self._compare_archive()
        self._compare_known()
        self.result.counts["items"] = len(self._store.log)
        self.result.counts["items ever stale"] = len(self._ever_stale)

    def _at(self, moment: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._numbers), action))

    def _after(self, ms: int, action: Callable[[], None]) -> None:
        self._at(self._clock.now_ms() + ms, action)

    # ------------------------------------------------------------------------------------------- events

    def _apply(self, step: Apply) -> None:
        now = self._clock.now_ms()
        outcome = ingest(
            step.events, self._definitions, self._store, self._clock, Retention(event_ids=HORIZON)
        )
        wanted = {place for place, event in enumerate(step.events) if oracle.refused(event, now)}
        if outcome.refused.keys() != wanted or outcome.failed:
            self._differ("refused or failed", "", "", 0, str(wanted), f"{outcome.refused} {outcome.failed}")
        for place, event in enumerate(step.events):
            if place not in wanted:
                self._arrived.append(replace(event, known_at=now))
                self._by_id.setdefault(event.dedup_id, event)
        self.result.counts["events"] += len(step.events)
        self.result.counts["too late for a view"] += len(outcome.too_late)
        self._too_late |= outcome.too_late
        for key in sorted(outcome.stale):
            self._went_stale(key)

    # ------------------------------------------------------------------------------------------ healing

    def _went_stale(self, key: str) -> None:
        """The updater puts the key on the queue, from where a worker takes it up within seconds."""
        self._ever_stale.add(key)
        if key not in self._open:
            self._open[key] = self._clock.now_ms()
            self._after(1, lambda: self._ask(self._questions_of(key)))
            self._after(self._rng.randrange(20 * SECOND), lambda: self._begin(key))

    def _begin(self, key: str) -> None:
        """The first commit of a healing. The archive holds what stands now some minutes later."""
        if not begin_healing([key], self._definitions, self._store, self._clock):
            self._differ("queued and not stale", key, "", 0, "stale", "exact")
        held = [self._by_id[event_id] for event_id in self._store.log[key]]
        if self._plan.seed % 2:
            held = list(self._arrived)  # as a library without a log has them
        ready = self._clock.now_ms() + self._rng.randint(MINUTE, LATEST_ARCHIVE)
        commits = len(self._store.log[key])
        self._after(ARCHIVE_LAG, lambda: self._look(key, held, ready, commits))
        self._after(1 + self._rng.randrange(ARCHIVE_LAG), lambda: self._ask(self._questions_of(key)))

    def _look(self, key: str, held: list[Event], ready: int, commits: int) -> None:
        """The second commit of a healing, once the archive holds what it needs."""
        now = self._clock.now_ms()
        if now < ready:
            self._after(RETRY, lambda: self._look(key, held, ready, commits))
            return
        still = heal([key], held, self._definitions, self._store, self._clock)
        self.result.counts["healings"] += 1
        self._healed.add(place_of(key))
        if still:
            self.result.counts["healings that left an item stale"] += 1
            if len(self._store.log[key]) == commits:
                self._differ("stale after healing", key, "", 0, "exact", "stale")
                return
            self._after(RETRY, lambda: self._begin(key))
            return
        self.result.healing_s.append((now - self._open.pop(key)) / SECOND)
        self._after(1, lambda: self._ask(self._questions_of(key)))

    def _questions_of(self, key: str) -> list[Question]:
        """The present of the entity that an item is about."""
        view, token = place_of(key)
        entity = next(of.entity for of in self._plan.views if of.name == view)
        return [Question({entity: token}, self._clock.now_ms())]

    # ---------------------------------------------------------------------------------------- questions

    def _end(self) -> None:
        """When nothing is due, no item is stale any more."""
        self._clock.advance(1)
        tokens = sorted({(name, token) for event in self._arrived for name, token in event.entities.items()})
        before = self.result.counts["stale"]
        self._ask([Question({name: token}, self._clock.now_ms()) for name, token in tokens])
        if self.result.counts["stale"] > before or self._open:
            self._differ("stale at the end", "", "", 0, "healed", str(sorted(self._open)))

    def _ask(self, questions: Sequence[Question], *, planned: bool = False) -> None:
        """Compare online features with the oracle, and keep both for the comparison with the archive.

        `planned`: the questions do not come because of an item that went stale.
        """
        knowing = len(self._arrived)
        for question in questions:
            online = online_features(self._definitions, self._store, question.entities, question.q)
            for view in self._plan.views:
                token = question.entities.get(view.entity)
                if token is None:
                    continue
                wanted = self._answer(view, self._arrived, token, question.q)
                values = [online.values[name] for name in view.features]
                read = Read(
                    view,
                    token,
                    question.q,
                    self._clock.now_ms(),
                    knowing,
                    wanted,
                    online.states[view.name],
                    values,
                )
                self._compare(read)
                self._reads.append(read)
                self.result.counts["planned view reads"] += planned
                self.result.counts["planned view reads, stale"] += planned and read.state == "stale"

    def _compare(self, read: Read) -> None:
        """Compare what was read online with the oracle."""
        counts = self.result.counts
        counts["view reads"] += 1
        counts[read.state] += 1
        match read.state:
            case "unavailable" if read.wanted.state == "unavailable":
                counts["unavailable: more events than declared"] += 1
                self._expect(all(map(math.isnan, read.values)), "online", read)
            case "unavailable":
                counts["unavailable: earlier moment"] += 1
                self._expect(all(map(math.isnan, read.values)), "online", read)
                self._expect(self._may_be_unavailable(read.view, read.token, read.q), "unavailable", read)
            case "stale":
                counts["stale and different"] += not equal(read.wanted.values, read.values)
                self._expect(self._may_be_stale(read.view, read.token), "stale", read)
            case state:
                absent = state == "absent" and self._only_too_late(read.view, read.token, read.q)
                self._expect(absent or state == read.wanted.state, "state", read)
                counts["values online"] += len(read.values)
                counts["earlier moments answered"] += read.q < read.clock
                self._expect(equal(read.wanted.values, read.values), "online", read)

    def _only_too_late(self, view: View, token: str, q: int) -> bool:
        """True where only events that came too late for every window lie before `q`: they make no entity present."""
        return all(
            event.dedup_id in self._too_late for event in self._of(view, token) if event.occurred_at < q
        )

    def _may_be_unavailable(self, view: View, token: str, q: int) -> bool:
        """True for a moment that is not promised: the past, a crowded one, or one before what a healing took back."""
        events = self._of(view, token)
        if (view.name, token) in self._healed and q <= max(event.voided_at or 0 for event in events):
            return True
        if len(events) <= RAW and not self._left_out(view, events):
            return False
        if expired_later(view, events, q):
            return True
        newest = max((event.moment for event in events), default=0)
        if view.max_events is not None and q <= newest and self._dropped(view, events, q):
            return True
        if q < newest - YOUNG:
            return True
        young = [event for event in events if event.moment >= newest - YOUNG]
        voids = sum(event.voided_at is not None for event in young)
        return q <= newest and (len(young) > CROWD or voids >= VOIDS)

    @staticmethod
    def _dropped(view: View, events: Sequence[Event], q: int) -> bool:
        """True where exact windows had no room for the events of `q` beside those that came later."""
        longest = max(oracle.milliseconds(window.length) for window in view.windows)
        return sum(event.occurred_at >= q - longest for event in events) > (view.max_events or 0) + RAW

    def _left_out(self, view: View, events: Sequence[Event]) -> bool:
        """True where an event may have been taken back, been out of reach, or belong to a history that expired."""
        return (
            view.max_events is not None
            or bool(view.expires_after)
            or any(event.voided_at is not None or event.dedup_id in self._too_late for event in events)
        )

    def _may_be_stale(self, view: View, token: str) -> bool:
        """True for an item that a void names, or a history with a gap that a late event may have closed."""
        events = self._of(view, token)
        late = any(after.occurred_at < before.occurred_at for before, after in itertools.pairwise(events))
        return any(event.voided_at is not None for event in events) or (bool(view.expires_after) and late)

    def _of(self, view: View, token: str) -> list[Event]:
        return [
            event
            for event in self._arrived
            if event.type in view.types and event.entities.get(view.entity) == token
        ]

    def _compare_archive(self) -> None:
        """Compare every answer with the archive's of what had arrived; one table holds what each moment knew."""
        known = sorted({read.knowing for read in self._reads})
        events = [
            replace(event, id=f"{size} {event.id}", entities=marked(event.entities, size))
            for size in known
            for event in self._arrived[:size]
        ]
        questions = [(read.q, marked({read.view.entity: read.token}, read.knowing)) for read in self._reads]
        for read, row in zip(self._reads, self._archived(events, questions, "ever"), strict=True):
            values = [row[name] for name in read.view.features]
            self.result.counts["values as of"] += len(values)
            self._expect(equal(read.wanted.values, values), "as-of", read, values)
            if read.state in {"present", "absent"}:
                self._expect(bits(read.values) == bits(values), "online and as-of", read, values)

    def _compare_known(self) -> None:
        """Compare answers of what was the present with those of the whole archive as of that moment."""
        reads = [read for read in self._reads if read.q == read.clock]
        questions = [(read.q, {read.view.entity: read.token}) for read in reads]
        for read, row in zip(reads, self._archived(self._arrived, questions, "at_moment"), strict=True):
            values = [row[name] for name in read.view.features]
            self.result.counts["values as known at the moment"] += len(values)
            self._expect(equal(read.wanted.values, values), "as-of as known", read, values)

    def _archived(
        self,
        events: Sequence[Event],
        questions: Sequence[tuple[int, Mapping[str, str]]],
        knowledge: Knowledge,
    ) -> list[dict[str, float]]:
        rows = pl.DataFrame([{"q": q, **NOBODY, **entities} for q, entities in questions], schema=SCHEMA)
        table = event_table(self._definitions, events)
        return historical_features(self._definitions, table, rows, knowledge=knowledge).to_dicts()

    def _expect(self, holds: bool, what: str, read: Read, values: Sequence[float] = ()) -> None:
        if not holds:
            actual = f"{read.state} {read.values}, archive {list(values)}"
            self._differ(what, read.view.name, read.token, read.q, str(read.wanted), actual, read.clock)

    def _differ(
        self, what: str, view: str, token: str, q: int, expected: str, actual: str, clock: int = 0
    ) -> None:
        clock = clock or self._clock.now_ms()
        self.result.differences.append(
            Difference(self.result.seed, what, view, token, q, clock, expected, actual)
        )


NOBODY = dict.fromkeys(ENTITIES)
SCHEMA = {"q": pl.Int64} | dict.fromkeys(ENTITIES, pl.String)


def marked(entities: Mapping[str, str], knowing: int) -> dict[str, str]:
    """Tokens that are other entities for each number of events that are known."""
    return {name: f"{knowing} {token}" for name, token in entities.items()}


def expired_later(view: View, events: Sequence[Event], q: int) -> bool:
    """True where `q` lies in a history, and a later event begins another one."""
    longest = oracle.expiry(view)
    moments = sorted(event.occurred_at for event in events if event.voided_at is None)
    return any(
        after - before > longest and q <= before + longest for before, after in itertools.pairwise(moments)
    )


def place_of(key: str) -> tuple[str, str]:
    """The view's name and the entity's token of an item's key."""
    view, _, token = key.partition("#")
    name = view.partition("@")[0]
    shard = token.rpartition("/")
    return name, shard[0] if shard[2] in {"0", "1", "2", "3"} and shard[0].startswith("shop") else token


def equal(wanted: Sequence[oracle.Value], values: Sequence[float]) -> bool:
    """Bit for bit, NaN like NaN; an estimate is a whole number within six standard errors."""
    return len(wanted) == len(values) and all(map(same, wanted, values))


def same(wanted: oracle.Value, value: float) -> bool:
    if isinstance(wanted, Estimate):
        return value.is_integer() and abs(value - wanted.true) <= max(2, 6 * STANDARD_ERROR * wanted.true)
    return bits([wanted]) == bits([value])


def bits(values: Sequence[float]) -> list[bytes | None]:
    """Bits of values; those of NaN are not told apart."""
    return [None if math.isnan(value) else struct.pack(">d", value) for value in values]
