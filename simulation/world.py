"""One simulated world: epochs of traffic under faults, each drained and then checked."""

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
from candor.features.views import SWEEP_MARGIN, FeatureView
from candor.ingest import Backoff
from simulation.checks import Checks
from simulation.deciders import Deciders
from simulation.faults import HEALTHY, KINDS, PLANTS, fault_rates, patched_limits
from simulation.healers import Healers
from simulation.importers import Importers
from simulation.queue import SimulatedQueue
from simulation.scheduler import BEGIN, Scheduler
from simulation.store import Table, Violation
from simulation.traffic import HORIZON, LENDERS, Producer, message_of, poison_of
from simulation.workers import VISIBILITY, Pool, Workers

MOST_REDRIVEN = 200
"""Dead letters above which the operator leaves refused messages alone: a worker that is killed between the DLQ and the
queue doubles them, so that a world that redrives all of them again and again would not end."""

CALM_AFTER, GIVE_UP_AFTER = 6, 60
"""Rounds of five minutes until faults cease, and until a world that has not drained is stuck."""

LATEST_COPY = HORIZON - DAY
LONGEST_OUTAGE = 12 * HOUR
"""Largest delay of a copy, and of an outage: deliveries, redrives included, must end within the horizon."""


@dataclass(frozen=True)
class WorldResult:
    """Outcome of a world; ``digest`` is the hash of its trace.

    `heal_seconds`: simulated seconds from stale to healed, per item healed.
    """

    seed: int
    violation: str | None
    digest: str
    reached: Counter[str]
    trace: list[str]
    heal_seconds: list[float]


def run(seed: int, planted: str | None = None) -> WorldResult:
    """Run the world of this seed, with or without a planted bug."""
    rng = random.Random(seed)
    plant = PLANTS[planted] if planted else HEALTHY
    with patched_limits(rng) as changed, plant.active():
        world = World(rng, planted)
        world.note("world", f"seed {seed}, limits {changed or 'as shipped'}")
        with virtual_time(world):
            violation = world.run()
    digest = hashlib.sha256("\n".join(world.trace).encode()).hexdigest()
    return WorldResult(seed, violation, digest, world.reached, world.trace, world.healers.seconds)


@contextmanager
def virtual_time(world: World) -> Iterator[None]:
    """Run ingest's threads and waits as simulated tasks of the world."""
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
    """The clock, the queue, the tables, the workers, and the traffic they receive."""

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
        self._rates = fault_rates(rng)
        self._calm = False
        self._sent_at: dict[str, int] = {}
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
        self._importers = Importers(
            self,
            self._lender,
            lambda process, view: plant.client(self, process, self._table_of(view)),
            self._heal,
            skew,
        )
        self.queue = SimulatedQueue(
            self.scheduler, self._workers.look, self._alarm, VISIBILITY, rng.choice([2, 5])
        )
        self._checks = Checks(
            self, self._lender, self._accepted, self._known_at, self._table_of, self.synchronous
        )
        self._poison: set[str] = set()
        self._void_rate = rng.choice([0.0, 0.1, 0.5])
        self._import_rate = rng.choice([0.0, 0.5, 1.0])
        self._sent = 0
        self._to_send = 0
        self._alarmed = False

    # Services for the parts of the world

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

    # Course of the world

    def run(self) -> str | None:
        """Run all epochs; return the violation, or None."""
        rates = {kind: round(self._rates[kind], 3) for kind in KINDS if self._rates[kind]}
        self.note("world", f"faults {rates}, windows {self._lender.definitions.views[0].windows}")
        self._workers.start(self.rng.randint(1, 4), self.rng.choice([1, 1, 3]))
        try:
            for epoch in range(self.rng.randint(2, 4)):
                self._epoch(epoch)
            self._checks.as_of()
        except Exception as error:  # noqa: BLE001 - a crash is a finding of this seed, not the end of all others
            return self._violation(error)
        finally:
            self.scheduler.stop()
        return None

    def _violation(self, error: Exception) -> str:
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
        self._plan_import()
        self.scheduler.run(lambda: self._to_send == 0)
        self._drain()
        self._check()

    def _pauses_about_expiry(self) -> tuple[int, int]:
        """Draw pauses until histories expire, so that a late event may close the gap, and until items are swept."""
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

    def _plan_import(self) -> None:
        """In some epochs past events come in bulk amid the traffic; the queue brings copies of some of them as well."""
        if self.rng.random() < self._import_rate:
            self._to_send += 1
            self.scheduler.at(self.scheduler.now + self.rng.randrange(MINUTE), self._import)

    def _import(self) -> None:
        self._to_send -= 1
        now = self.scheduler.now
        drawn = [self._producer.event(now) for _ in range(self.rng.choice([3, 30, 30, 120]))]
        events = [event for event in drawn if event.occurred_at <= now]
        events += [
            replace(event, voided_at=max(event.occurred_at, now - self.rng.randrange(HOUR)))
            for event in events
            if self.rng.random() < self._void_rate / 2
        ]
        self._import_events(events)

    def _import_events(self, events: Sequence[Event]) -> None:
        """Import events; the queue brings copies of some of them as well."""
        share = self.rng.choice([0.0, 0.2, 0.8])
        self._accepted |= {event.dedup_id: event for event in events}
        for event in events:
            self._known_at.setdefault(event.dedup_id, self.scheduler.now)
            if self.rng.random() < share:
                self._later(partial(self._send, event, "copy"))
        self._importers.start(events)

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
        """Start several checkouts of one customer at once."""
        customer = self.rng.choice(self._producer.customers)
        for _ in range(self.rng.randint(1, 8)):
            self._checkouts += 1
            self._deciders.checkout(f"d{self._checkouts}", customer, self.rng.randrange(1_000))

    def _stream(self) -> None:
        """Publish decisions to the bus, at least once."""
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
        """Void the event; the void may arrive before it."""
        voided_at = max(event.occurred_at, self.scheduler.now - self.rng.choice([0, SECOND, HOUR]))
        void = replace(event, voided_at=voided_at)
        if self.rng.random() < 0.2:
            void = self._producer.distorted(void)
            self.reach("void that differs")
        self._accepted[void.dedup_id] = void
        self._send_with_copies(void)

    def _send(self, event: Event, kind: str = "event") -> None:
        self._sent += 1
        self._known_at.setdefault(event.dedup_id, self.scheduler.now)
        message = message_of(event, self._sent)
        age = (self.scheduler.now - event.occurred_at) / SECOND
        self.note(
            "producer",
            f"{message.id} = {kind} {event.dedup_id} {event.entities} {age:.3f} s old {event.data}",
        )
        self._sent_at[message.id] = self.scheduler.now
        self.queue.send(message)

    def _send_poison(self, event: Event) -> None:
        self._sent += 1
        message = poison_of(event, self._sent, self.rng)
        self._poison.add(message.id)
        self.note("producer", f"{message.id} = a broken copy of {event.id}")
        self.queue.send(message)

    def _alarm(self, letter: Message) -> None:
        """Schedule a redrive of dead letters that may still be applied; sometimes the operator redrives all."""
        if letter.id in self._poison or self._alarmed:
            return
        self._alarmed = True
        self.scheduler.at(self.scheduler.now + 10 * MINUTE, self._redrive)

    def _redrive(self) -> None:
        """Redrive dead letters; an outage that lasts for `LONGEST_OUTAGE` ends, as the horizon of event ids requires."""
        self._alarmed = False
        oldest = min(
            (self._sent_at.get(letter.id, self.scheduler.now) for letter in self.queue.dead),
            default=self.scheduler.now,
        )
        if self.scheduler.now - oldest > LONGEST_OUTAGE:
            self._calm = True
        everything = self.rng.random() < 0.1 and len(self.queue.dead) < MOST_REDRIVEN
        kept = () if everything else self._poison
        self.note("operator", f"redrives {self.queue.redrive(kept)} dead letters")
        self.reach("redriven")

    def _drain(self) -> None:
        """Wait until only messages that can never be applied are left, in the DLQ.

        Faults cease after a while, so this must end.
        """
        for round_ in range(GIVE_UP_AFTER):
            self._calm = round_ >= CALM_AFTER
            self._stream()
            self._let_pass(5 * MINUTE)
            if (
                not self._deciding
                and not self._importers.open
                and not len(self.queue)
                and self._only_poison_is_dead
                and not len(self.healers)
            ):
                return
        raise Violation(f"{len(self.queue)} messages and {len(self.queue.dead)} dead letters are never done")

    @property
    def _deciding(self) -> bool:
        """True if a checkout is unanswered or a decision has not reached the bus."""
        return self._deciders.open > 0 or self.synchronous.decisions.keys() != self._published

    @property
    def _only_poison_is_dead(self) -> bool:
        return {letter.id for letter in self.queue.dead} <= self._poison

    def _check(self) -> None:
        missing = self._poison - {letter.id for letter in self.queue.dead}
        if missing:
            raise Violation(f"refused messages are not in the DLQ: {sorted(missing)}")
        self._checks.items()
        self.note(
            "world", f"equal to the oracle: {len(self._accepted)} events, {len(self.table.items)} items"
        )
        self._checks.bursts()

    def _table_of(self, view: FeatureView) -> Table:
        return self.synchronous if view.synchronous else self.table
