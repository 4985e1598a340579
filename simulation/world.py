"""One world: epochs of traffic under faults; after each everything is delivered and must equal the naive oracle."""

from __future__ import annotations

import hashlib
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

from msgspec.structs import replace

from candor.clock import DAY, HOUR, MINUTE, SECOND
from candor.contracts import Event
from candor.edge.messages import Message
from candor.features import segment, state, voids  # limits are read when needed: a world may have set its own
from candor.features.event_types import MAX_SKEW
from candor.features.state import Marker, ViewState
from candor.features.vector import Read, view_values
from candor.features.views import SWEEP_MARGIN, FeatureView
from candor.ingest import Backoff
from candor.store.protocol import Commit, marked
from history.asof.point_in_time import features_of
from history.rebuild.recompute import recomputed
from simulation.deciders import Deciders
from simulation.faults import HEALTHY, KINDS, PLANTS, drawn, knobs
from simulation.healers import Healers
from simulation.oracle import begin_of_history, expected
from simulation.queue import SimulatedQueue
from simulation.scheduler import Scheduler
from simulation.store import Table, Violation
from simulation.traffic import HORIZON, LENDERS, Producer, message_of, poison_of
from simulation.workers import VISIBILITY, Pool, Workers

BEGIN = 1_800_000_000_000
CALM_AFTER, GIVE_UP_AFTER = 6, 60
"""Rounds of five minutes after which faults cease, and after which a world that is not empty is stuck."""

LATEST_COPY = HORIZON - DAY
"""A copy is sent so much later at most: its delivery, redrives included, must end inside the horizon."""


def _not_voided(events: Sequence[Event], q: int) -> list[Event]:
    """The events that may count at `q`: no void, and none that was voided before."""
    voided = {event.id for event in events if event.voided_at is not None and event.voided_at < q}
    return [event for event in events if event.voided_at is None and event.id not in voided]


@dataclass(frozen=True)
class WorldResult:
    """How a world ended; ``digest`` is the hash of its trace."""

    seed: int
    violation: str | None
    digest: str
    reached: Counter[str]
    trace: list[str]


def run(seed: int, planted: str | None = None) -> WorldResult:
    """The world of this seed, with a planted bug or without."""
    rng = random.Random(seed)
    plant = PLANTS[planted] if planted else HEALTHY
    with knobs(rng) as changed, plant.active():
        world = World(rng, planted)
        world.note("world", f"seed {seed}, limits {changed or 'as shipped'}")
        with in_the_time_of(world):
            violation = world.run()
    digest = hashlib.sha256("\n".join(world.trace).encode()).hexdigest()
    return WorldResult(seed, violation, digest, world.reached, world.trace)


@contextmanager
def in_the_time_of(world: World) -> Iterator[None]:
    """What ingest does at once, and what it waits for, it does on tasks of the world."""
    scheduler = world.scheduler
    backoff = Backoff(
        draw=scheduler.rng.random, sleep=lambda seconds: scheduler.sleep(round(seconds * SECOND))
    )
    with (
        patch("candor.ingest.ThreadPoolExecutor", partial(Pool, scheduler)),
        patch("candor.ingest.BACKOFF", backoff),
    ):
        yield


class World:
    """The clock, the queue, the table, the workers and what they are told to do."""

    def __init__(self, rng: random.Random, planted: str | None) -> None:
        plant = PLANTS[planted] if planted else HEALTHY
        self.rng = rng
        self.scheduler = Scheduler(rng, BEGIN)
        self.trace: list[str] = []
        self.reached: Counter[str] = Counter()
        self.table = plant.table(self)
        self.synchronous = plant.table(self)
        self._accepted: dict[str, Event] = {}
        self._known_at: dict[str, int] = {}
        self._published: set[str] = set()
        self._checkouts = 0
        self._rates = drawn(rng)
        self._calm = False
        self._lender = rng.choice(LENDERS)
        skew = rng.choice([0, 2 * SECOND, 2 * MINUTE])
        self._producer = Producer(rng, self._lender, skew)
        self._workers = Workers(
            self,
            self._lender,
            lambda: self.queue,
            lambda process: plant.client(self, process, self.table),
            lambda process: plant.client(self, process, self.synchronous),
            self._heal,
            skew,
        )
        self.healers = Healers(
            self,
            {view.name: view for view in self._lender.definitions.views},
            self._accepted,
            self._table_of,
            lambda process, view: plant.client(self, process, self._table_of(view)),
            skew,
        )
        self._deciders = Deciders(
            self, self._lender, lambda process: plant.client(self, process, self.synchronous), skew
        )
        self.queue = SimulatedQueue(
            self.scheduler, self._workers.look, self._alarm, VISIBILITY, rng.choice([2, 5])
        )
        self._poison: set[str] = set()
        self._void_rate = rng.choice([0.0, 0.1, 0.5])
        self._sent = 0
        self._to_send = 0
        self._alarmed = False

    # What the parts of the world ask of it

    def happens(self, fault: str) -> bool:
        """Draw whether a fault happens now."""
        hit = not self._calm and self.rng.random() < self._rates[fault]
        if hit:
            self.reached[fault] += 1
        return hit

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        self.trace.append(f"{(self.scheduler.now - BEGIN) / SECOND:14.3f} s  {who:<12} {what}")

    def reach(self, what: str) -> None:
        """Count a situation."""
        self.reached[what] += 1

    def _heal(self, key: str) -> None:
        self.healers.heal(key)

    # The course of events

    def run(self) -> str | None:
        """Live through every epoch; the violation, or None."""
        rates = {kind: round(self._rates[kind], 3) for kind in KINDS if self._rates[kind]}
        self.note("world", f"faults {rates}, windows {self._lender.definitions.views[0].windows}")
        self._workers.start(self.rng.randint(1, 4), self.rng.choice([1, 1, 3]))
        try:
            for epoch in range(self.rng.randint(2, 4)):
                self._epoch(epoch)
            self._check_as_of()
        except Exception as error:  # noqa: BLE001 - a crash is a finding of this seed, not the end of all others
            return self._found(error)
        finally:
            self.scheduler.stop()
        return None

    def _found(self, error: Exception) -> str:
        if isinstance(error, Violation):
            violation = str(error)
        else:
            violation = f"{type(error).__name__}: {error}"
            self.note("crash", "".join(traceback.format_exception(error)))
        self.note("VIOLATION", violation)
        return violation

    def _epoch(self, number: int) -> None:
        self._calm = False
        if number:
            pause = self.rng.choice([HOUR, 12 * HOUR, HORIZON + HOUR, *self._pauses_about_expiry()])
            self.note("world", f"nothing new for {pause / HOUR:g} h")
            self._let_pass(pause)
        self._plan_traffic()
        self.scheduler.run(lambda: self._to_send == 0)
        self._drain()
        self._check()

    def _pauses_about_expiry(self) -> tuple[int, int]:
        """Until histories expire, so that a late event may close the gap; and until their items are swept."""
        expiry = self._lender.expiry_ms
        return expiry + self.rng.randrange(-DAY, 2 * DAY), expiry + SWEEP_MARGIN + 3 * DAY

    def _let_pass(self, ms: int) -> None:
        end = self.scheduler.now + ms
        self.scheduler.at(end, lambda: None)
        self.scheduler.run(lambda: self.scheduler.now >= end)

    def _plan_traffic(self) -> None:
        moment = self.scheduler.now
        number = self.rng.choice([5, 20, 20, 40] + [300] * (self.rng.random() < 0.06))
        gap = self.rng.choice([5, 200, 20 * SECOND])
        for _ in range(number):
            moment += self.rng.randint(0, gap)
            self._to_send += 1
            self.scheduler.at(moment, self._publish)

    def _publish(self) -> None:
        self._to_send -= 1
        if self.rng.random() < 0.1:
            self._burst()
        event = self._producer.event(self.scheduler.now)
        if self.rng.random() < 0.05:
            self._send_poison(event)
        self._accepted[event.id] = event
        self._send_with_copies(event)
        if self.rng.random() < self._void_rate:
            self._later(lambda: self._void(event))
        if self.rng.random() < self._void_rate / 4:
            self._void(self._producer.event(self.scheduler.now))
            self.reach("void without event")

    def _burst(self) -> None:
        """One customer checks out several times at once."""
        customer = self.rng.choice(self._producer.customers)
        for _ in range(self.rng.randint(1, 8)):
            self._checkouts += 1
            self._deciders.checkout(f"d{self._checkouts}", customer, self.rng.randrange(1_000))

    def _stream(self) -> None:
        """What was decided reaches the bus, at least once."""
        for event, _ in list(self.synchronous.decisions.values()):
            if event.id not in self._published:
                self._published.add(event.id)
                self._accepted[event.id] = event
                self._send_with_copies(event)

    def _send_with_copies(self, event: Event) -> None:
        self._send(event)
        while self.rng.random() < 0.2:
            self._later(lambda: self._send(event, "copy"))

    def _later(self, action: Callable[[], None]) -> None:
        latest = self.rng.choice([SECOND, HOUR, LATEST_COPY])
        self.scheduler.at(self.scheduler.now + self.rng.randrange(latest), action)

    def _void(self, event: Event) -> None:
        """The event is taken back; its void may arrive before it."""
        voided_at = max(event.occurred_at, self.scheduler.now - self.rng.choice([0, SECOND, HOUR]))
        void = replace(event, voided_at=voided_at)
        if self.rng.random() < 0.2:
            void = self._producer.distorted(void)
            self.reach("void that differs")
        self._accepted[void.dedup_id] = void
        self._send_with_copies(void)

    def _send(self, event: Event, what: str = "event") -> None:
        self._sent += 1
        self._known_at.setdefault(event.dedup_id, self.scheduler.now)
        message = message_of(event, self._sent)
        age = (self.scheduler.now - event.occurred_at) / SECOND
        self.note(
            "producer",
            f"{message.id} = {what} {event.dedup_id} {event.entities} {age:.3f} s old {event.data}",
        )
        self.queue.send(message)

    def _send_poison(self, event: Event) -> None:
        self._sent += 1
        message = poison_of(event, self._sent, self.rng)
        self._poison.add(message.id)
        self.note("producer", f"{message.id} = a broken copy of {event.id}")
        self.queue.send(message)

    def _alarm(self, letter: Message) -> None:
        """Dead letters that may still be applied are redriven soon; now and then the operator redrives all."""
        if letter.id in self._poison or self._alarmed:
            return
        self._alarmed = True
        self.scheduler.at(self.scheduler.now + 10 * MINUTE, self._redrive)

    def _redrive(self) -> None:
        self._alarmed = False
        kept = () if self.rng.random() < 0.1 else self._poison
        self.note("operator", f"redrives {self.queue.redrive(kept)} dead letters")
        self.reach("redriven")

    def _drain(self) -> None:
        """Wait until only what can never be applied is left, in the DLQ. Faults cease after a while: then it must end."""
        for round_ in range(GIVE_UP_AFTER):
            self._calm = round_ >= CALM_AFTER
            self._stream()
            self._let_pass(5 * MINUTE)
            if (
                not self._deciding
                and not len(self.queue)
                and self._only_poison_is_dead
                and not len(self.healers)
            ):
                return
        raise Violation(f"{len(self.queue)} messages and {len(self.queue.dead)} dead letters are never done")

    @property
    def _deciding(self) -> bool:
        """Whether a checkout is not answered, or a decision has not reached the bus."""
        return self._deciders.open > 0 or self.synchronous.decisions.keys() != self._published

    @property
    def _only_poison_is_dead(self) -> bool:
        return {letter.id for letter in self.queue.dead} <= self._poison

    # What must hold

    def _check(self) -> None:
        missing = self._poison - {letter.id for letter in self.queue.dead}
        if missing:
            raise Violation(f"refused messages are not in the DLQ: {sorted(missing)}")
        for view in self._lender.definitions.views:
            name = view.entity.name
            entities = {event.entities[name] for event in self._accepted.values() if name in event.entities}
            for key in sorted(entities):
                events = [
                    event
                    for event in self._accepted.values()
                    if event.entities.get(name) == key and event.type in view.event_types
                ]
                if all(event.voided_at is not None for event in events):
                    continue
                self._check_values(view, key, events)
                for item in view.item_keys(key):
                    self._check_replay(view, item)
        self.note(
            "world", f"equal to the oracle: {len(self._accepted)} events, {len(self.table.items)} items"
        )

        for view in self._lender.definitions.views:
            if view.synchronous:
                self._check_bursts(view)

    def _table_of(self, view: FeatureView) -> Table:
        return self.synchronous if view.synchronous else self.table

    def _check_bursts(self, view: FeatureView) -> None:
        """Every decision saw all those of its customer before it, and none was taken at the same moment."""
        decisions = list(self.synchronous.decisions.values())
        for decision, (seen,) in decisions:
            others = [event for event, _ in decisions if event.entities == decision.entities]
            if sum(event.occurred_at == decision.occurred_at for event in others) > 1:
                raise Violation(f"{decision.id} was decided at the moment of another one")
            begin = begin_of_history(
                [event.occurred_at for event in others], view.expiry_ms, decision.occurred_at
            )
            counting = [event for event in others if begin is not None and event.occurred_at >= begin]
            if list(seen) != expected(view, counting, decision.occurred_at):
                raise Violation(f"{decision.id} did not see what was decided before it")

    def _check_values(self, view: FeatureView, key: str, events: list[Event]) -> None:
        items, table = view.item_keys(key), self._table_of(view)
        newest = max(event.voided_at or event.occurred_at for event in events)
        for q in self._moments(view, events):
            reads = [table.get(item) for item in items]
            state, values = view_values(view, reads, q)
            happened = [event.occurred_at for event in events if event.voided_at is None]
            begin = begin_of_history(happened, view.expiry_ms, q)
            wanted_state = self._wanted_state(view, begin, happened, q)
            if state == "absent" and not self._reaches(view, happened, q):
                wanted_state = state  # what came too late for every window does not make an entity present
            if state != wanted_state:
                if state == "unavailable" and (q < newest - MAX_SKEW or self._is_crowded(view, reads, q)):
                    continue
                raise Violation(f"{items[0]} is {state} at {(q - BEGIN) / SECOND:g} s, not {wanted_state}")
            if state == "unavailable":
                self.reach("too many for exact windows")
                continue
            counting = [event for event in events if begin is not None and event.occurred_at >= begin]
            voids = [event for event in events if event.voided_at is not None]
            wanted = expected(view, _not_voided([*counting, *voids], q), q)
            if wrong := self._differences(view, wanted, values):
                place = f"{key} at {(q - BEGIN) / SECOND:g} s"
                raise Violation(f"{place}: {'; '.join(wrong[:3])} ({len(wrong)} of {len(values)} differ)")

    def _check_as_of(self) -> None:
        """A training set of past moments holds what was known at each of them, and no correction that came later."""
        view = self._lender.definitions.views[0]
        events = [
            replace(event, known_at=self._known_at[event.dedup_id])
            for event in self._accepted.values()
            if event.type in view.event_types and "customer" in event.entities
        ]
        about = self.rng.sample(events, min(len(events), 2))
        queries = [
            (event.entities["customer"], moment + 1)
            for event in about
            for moment in (event.occurred_at, event.known_from, event.known_from - 1)
        ]
        table = features_of(view, self._lender.definitions, events, queries)
        for (customer, q), values in zip(queries, table.tolist(), strict=True):
            known = [
                event for event in events if event.entities["customer"] == customer and event.known_from < q
            ]
            begin = begin_of_history(
                (event.occurred_at for event in known if event.voided_at is None), view.expiry_ms, q
            )
            counting = [event for event in known if begin is not None and event.occurred_at >= begin]
            voids = [event for event in known if event.voided_at is not None]
            wanted = expected(view, _not_voided([*counting, *voids], q), q)
            if wrong := self._differences(view, wanted, values):
                raise Violation(f"as of {(q - BEGIN) / SECOND:g} s, {customer}: {'; '.join(wrong[:3])}")

    def _is_crowded(self, view: FeatureView, reads: Sequence[Read], q: int) -> bool:
        """Whether an item holds so many raw events or voids that moments after its line cannot be read."""
        states = [ViewState.decode(view, read.blob) for read in reads if read.blob is not None]
        crowded = any(
            len(part.head) >= segment.MOST_RAW
            or len(part.voids.counted) >= voids.MOST_VOIDS
            or q < part.readable_from
            or part.overflows(q)
            for state in states
            for part in state.segments
        ) or any(state.expired is not None and q <= state.latest for state in states)
        if crowded:
            self.reach("crowded")
        return crowded

    def _reaches(self, view: FeatureView, happened: Sequence[int], q: int) -> bool:
        """Whether a window holds an event."""
        starts = [feature.window.start(q) for feature in view.features]
        return any(at < q and (start is None or at >= start) for at in happened for start in starts)

    def _wanted_state(self, view: FeatureView, begin: int | None, happened: Sequence[int], q: int) -> str:
        if begin is None:
            return "absent"
        longest = max(feature.window.length or 0 for feature in view.features)
        within = sum(max(begin, q - longest) <= at < q for at in happened)
        return "unavailable" if view.max_events is not None and within > view.max_events else "present"

    @staticmethod
    def _differences(view: FeatureView, wanted: Sequence[float], values: Sequence[float]) -> list[str]:
        """Features that are not as they must be."""
        return [
            f"{feature.name} is {value:g}, not {want:g}"
            for feature, value, want in zip(view.features, values, wanted, strict=True)
            if value.hex() != want.hex()
        ]

    def _moments(self, view: FeatureView, events: list[Event]) -> Iterator[int]:
        """Now, soon, and moments at which an event lies on a window's left edge or just outside."""
        now = self.scheduler.now
        yield now
        yield now + self.rng.randrange(HOUR)
        for _ in range(3):
            window = self.rng.choice(view.features).window
            if window.length is None or window.hop is None:
                continue
            q = self.rng.choice(events).occurred_at + window.length + window.delay
            yield from (moment for moment in (q, q + window.hop) if moment >= now)

    def _check_replay(self, view: FeatureView, item: str) -> None:
        """The log of commits gives the item again, byte for byte."""
        table = self._table_of(view)
        if item not in table.items:
            return
        applied = self._replayed(view, table.log[item], table.earlier[item])
        if len(applied.ring) > state.RING_IDS:
            raise Violation(f"{item} keeps {len(applied.ring)} event ids")
        if applied.markers and not view.entity.hot:
            self.reach("ring overflowed")
        if applied.encode() != (table.get(item).blob or b""):
            raise Violation(f"the log of {item} does not give its item")

    def _replayed(self, view: FeatureView, log: Sequence[Commit], earlier: Sequence[Commit]) -> ViewState:
        """The item that the commits of its life make, deduplication included."""
        item, horizon = ViewState.new(view), self._lender.retention.event_ids
        held = [self._accepted[event_id] for commit in earlier for event_id in commit.event_ids]
        markers: dict[str, Marker] = {}
        healing: list[Event] = []
        for n, commit in enumerate(log, 1):
            events = [self._accepted[event_id] for event_id in commit.event_ids]
            if commit.healing:
                item.begin_healing(n)
                healing = held.copy()
            elif commit.rebuilt:
                anew = recomputed(item, healing)
                anew.finish_healing(item)
                item = anew
            else:
                item.apply(events, commit.applied_at, horizon, markers)
                item.base.folded |= commit.left_out
            held += events
            markers |= {
                event_id: Marker(fingerprint, commit.marker_expiry or 0)
                for event_id, fingerprint in marked(commit)
            }
        return item
