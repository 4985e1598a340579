"""Checks of a drained world: items, decisions and training sets against the naive oracle and the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from candor.clock import HOUR, SECOND
from candor.contracts import Event
from candor.features import segment, state, voids  # limits are read on use: a world may have patched them
from candor.features.event_types import MAX_SKEW
from candor.features.state import Marker, ViewState
from candor.features.vector import Read, view_values
from candor.features.views import FeatureView
from candor.store.protocol import Commit, marked
from history.asof.point_in_time import features_of
from history.rebuild.recompute import recomputed
from simulation.oracle import begin_of_history, features
from simulation.scheduler import BEGIN
from simulation.store import Surroundings, Table, Violation
from simulation.traffic import SimulatedLender


class Checks:
    """Checks of one world; each raises ``Violation``.

    `accepted`: events by `Event.dedup_id`, and `known_at`: when each was first sent (ms). Both grow with the world.
    """

    def __init__(
        self,
        world: Surroundings,
        lender: SimulatedLender,
        accepted: Mapping[str, Event],
        known_at: Mapping[str, int],
        table_of: Callable[[FeatureView], Table],
        synchronous: Table,
    ) -> None:
        self._world = world
        self._lender = lender
        self._accepted = accepted
        self._known_at = known_at
        self._table_of = table_of
        self._synchronous = synchronous

    def items(self) -> None:
        """Every item equals the oracle, and its log replays to its bytes."""
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

    def bursts(self) -> None:
        """Every decision saw its customer's earlier decisions."""
        for view in self._lender.definitions.views:
            if view.synchronous:
                self._check_bursts(view)

    def _check_bursts(self, view: FeatureView) -> None:
        """Every decision saw all earlier ones of its customer, and no two share a moment."""
        decisions = list(self._synchronous.decisions.values())
        for decision, (seen,) in decisions:
            others = [event for event, _ in decisions if event.entities == decision.entities]
            if sum(event.occurred_at == decision.occurred_at for event in others) > 1:
                raise Violation(f"{decision.id} was decided at the moment of another one")
            begin = begin_of_history(
                [event.occurred_at for event in others], view.expiry_ms, decision.occurred_at
            )
            counting = [event for event in others if begin is not None and event.occurred_at >= begin]
            if list(seen) != features(view, counting, decision.occurred_at):
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
                wanted_state = state  # events too late for every window do not make an entity present
            if state != wanted_state:
                if state == "unavailable" and (q < newest - MAX_SKEW or self._is_crowded(view, reads, q)):
                    continue
                raise Violation(f"{items[0]} is {state} at {(q - BEGIN) / SECOND:g} s, not {wanted_state}")
            if state == "unavailable":
                self._world.reach("too many for exact windows")
                continue
            if wrong := self._differences(view, _expected(view, events, q), values):
                where = f"{key} at {(q - BEGIN) / SECOND:g} s"
                raise Violation(f"{where}: {'; '.join(wrong[:3])} ({len(wrong)} of {len(values)} differ)")

    def as_of(self) -> None:
        """A training set of past moments holds what was known at each, and no later correction."""
        view = self._lender.definitions.views[0]
        events = [
            replace(event, known_at=self._known_at[event.dedup_id])
            for event in self._accepted.values()
            if event.type in view.event_types and "customer" in event.entities
        ]
        about = self._world.scheduler.rng.sample(events, min(len(events), 2))
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
            if wrong := self._differences(view, _expected(view, known, q), values):
                raise Violation(f"as of {(q - BEGIN) / SECOND:g} s, {customer}: {'; '.join(wrong[:3])}")

    def _is_crowded(self, view: FeatureView, reads: Sequence[Read], q: int) -> bool:
        """True if an item holds too many raw events or voids for moments after its fold horizon to be read."""
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
            self._world.reach("crowded")
        return crowded

    def _reaches(self, view: FeatureView, happened: Sequence[int], q: int) -> bool:
        """True if a window holds an event."""
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
        """Describe the features that differ from the oracle."""
        return [
            f"{feature.name} is {value:g}, not {want:g}"
            for feature, value, want in zip(view.features, values, wanted, strict=True)
            if value.hex() != want.hex()
        ]

    def _moments(self, view: FeatureView, events: list[Event]) -> Iterator[int]:
        """Yield now, soon, and moments at which an event lies on a window's left edge or just outside."""
        now = self._world.scheduler.now
        yield now
        yield now + self._world.scheduler.rng.randrange(HOUR)
        for _ in range(3):
            window = self._world.scheduler.rng.choice(view.features).window
            if window.length is None or window.hop is None:
                continue
            q = self._world.scheduler.rng.choice(events).occurred_at + window.length + window.delay
            yield from (moment for moment in (q, q + window.hop) if moment >= now)

    def _check_replay(self, view: FeatureView, item: str) -> None:
        """The commit log replays to the item, byte for byte."""
        table = self._table_of(view)
        if item not in table.items:
            return
        applied = self._replayed(view, table.log[item], table.earlier[item])
        if len(applied.ring) > state.RING_IDS:
            raise Violation(f"{item} keeps {len(applied.ring)} event ids")
        if applied.markers and not view.entity.hot:
            self._world.reach("ring overflowed")
        if applied.encode() != (table.get(item).blob or b""):
            raise Violation(f"the log of {item} does not give its item")

    def _replayed(self, view: FeatureView, log: Sequence[Commit], earlier: Sequence[Commit]) -> ViewState:
        """Replay the commits of an item's current birth, deduplication included."""
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
                event_id: Marker(0 if commit.claimant else fingerprint, commit.marker_expiry or 0)
                for event_id, fingerprint in marked(commit)
            }
        return item


def _expected(view: FeatureView, events: Sequence[Event], q: int) -> list[float]:
    """The oracle's values at `q` of one entity's events and voids, history's expiry included."""
    happened = [event.occurred_at for event in events if event.voided_at is None]
    begin = begin_of_history(happened, view.expiry_ms, q)
    counting = [event for event in events if begin is not None and event.occurred_at >= begin]
    voids = [event for event in events if event.voided_at is not None]
    return features(view, _not_voided([*counting, *voids], q), q)


def _not_voided(events: Sequence[Event], q: int) -> list[Event]:
    """The events that may count at `q`: no voids, and none voided before."""
    voided = {event.id for event in events if event.voided_at is not None and event.voided_at < q}
    return [event for event in events if event.voided_at is None and event.id not in voided]
