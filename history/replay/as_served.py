"""As-served replay: a decision's vector recomputed, bit for bit, from the archive and the commit log.

The record names every item read and its version; the log lists the events of each version; the archive holds the
events. They are applied commit by commit with the updater's code, and the vector is built with the scorer's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, NamedTuple

from candor.contracts import Application, Event
from candor.decision import Decision
from candor.errors import DefinitionError
from candor.features.definitions import Definitions
from candor.features.state import ViewState
from candor.features.vector import (
    ABSENT,
    UNAVAILABLE,
    FeatureVector,
    Read,
    Version,
    build,
    decode_items,
    item_keys,
)
from candor.features.views import FeatureView
from history.archive.commits import Commit, CommitLog, LogUnusable
from history.archive.events import Arrival
from history.archive.items import Items
from history.rebuild.recompute import earlier_events, recomputed

NOT_KEPT: Final = "its definitions are not kept"
NOT_ARCHIVED: Final = "the archive lacks an event of the log"

PAGE: Final = 1_000
"""Decisions replayed together: all versions of the items they read are held in memory."""


class Difference(NamedTuple):
    """A feature or a view's state whose replayed value differs from the served one."""

    name: str
    served: str
    replayed: str


@dataclass(frozen=True)
class Replayed:
    """Replay of one decision: the recomputed `vector` and its `differences`, or the reason why there is none."""

    decision: Decision
    differences: Sequence[Difference] = ()
    reason: str | None = None
    vector: FeatureVector | None = None


def versions_read(decisions: Iterable[Decision]) -> dict[str, set[Version]]:
    """Return the versions of every item that decisions read."""
    versions: defaultdict[str, set[Version]] = defaultdict(set)
    for decision in decisions:
        for key, version in decision.vector.versions.items():
            if version is not None:
                versions[key].add(version)
    return dict(versions)


def keys_of(decisions: Iterable[Decision], kept: KeptDefinitions) -> set[str]:
    """Return the key of every item that decisions requested, whether or not it existed or could be read."""
    keys: set[str] = set()
    for decision in decisions:
        keys.update(decision.vector.versions)
        served = kept.served_by(decision)
        if served is not None:
            keys.update(chain.from_iterable(item_keys(served, application_of(decision)).values()))
    return keys


def application_of(decision: Decision) -> Application:
    """Return the application that was decided."""
    return Application(decision.request, decision.merchant_id, decision.livemode)


class KeptDefinitions:
    """Declarations that are kept, and lookup of those that made a decision."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._views = {f"{view.name}@{view.version}": view for view in definitions.kept}
        self._serving: dict[frozenset[tuple[str, str]], Definitions | None] = {}

    def view_of(self, key: str) -> FeatureView:
        """Return the view of an item that a decision of these declarations read."""
        return self._views[key.partition("#")[0]]

    def served_by(self, decision: Decision) -> Definitions | None:
        """Return the declarations that made the decision; None if they are not kept."""
        named = (key.partition("#")[0].partition("@") for key in decision.vector.versions)
        versions = frozenset((name, version) for name, _, version in named)
        if versions not in self._serving:
            self._serving[versions] = self._find(dict(versions))
        definitions = self._serving[versions]
        return (
            definitions if definitions is not None and definitions.hash == decision.definition_hash else None
        )

    def _find(self, versions: Mapping[str, str]) -> Definitions | None:
        try:
            return self._definitions.serving(versions)
        except DefinitionError:
            return None


def replay(
    decisions: Sequence[Decision], definitions: Definitions, log: CommitLog, items: Items
) -> Iterator[Replayed]:
    """Replay decisions in order."""
    kept = KeptDefinitions(definitions)
    for start in range(0, len(decisions), PAGE):
        yield from _replay_page(decisions[start : start + PAGE], kept, log, items)


def _replay_page(
    decisions: Sequence[Decision], kept: KeptDefinitions, log: CommitLog, items: Items
) -> Iterator[Replayed]:
    needed = versions_read(decisions)
    reads: dict[str, Mapping[Version, Read | str]] = {}
    for decision in decisions:
        served = kept.served_by(decision)
        if served is None:
            yield Replayed(decision, reason=NOT_KEPT)
            continue
        for key in decision.vector.versions:
            if key not in reads:
                versions = needed.get(key, set())
                reads[key] = item_versions(kept.view_of(key), key, versions, log, items.get(key, {}))
        yield _replayed(decision, served, reads)


def item_versions(
    view: FeatureView, key: str, versions: Iterable[Version], log: CommitLog, events: Mapping[str, Arrival]
) -> dict[Version, Read | str]:
    """Return an item in each of these versions, or the reason why it is unknown."""
    births: defaultdict[int, set[int]] = defaultdict(set)
    for version in versions:
        births[version.birth].add(version.n)
    reads: dict[Version, Read | str] = {}
    for birth, numbers in births.items():
        try:
            reads.update(_followed(view, key, birth, numbers, log, events))
        except LogUnusable as error:
            for n in numbers:
                reads.setdefault(Version(birth, n), str(error))
    return reads


def _followed(
    view: FeatureView,
    key: str,
    birth: int,
    numbers: set[int],
    log: CommitLog,
    events: Mapping[str, Arrival],
) -> Iterator[tuple[Version, Read]]:
    """Replay one birth of an item, commit by commit. Raises LogUnusable."""
    state, held = ViewState.new(view), dict[str, Event]()
    if 0 in numbers:  # the tombstone of an erased entity: no commit made it
        yield Version(birth, 0), Read("present", state.encode(), Version(birth, 0))
    healing: list[Event] | None = None
    for commit in islice(log.follow(key, birth), max(numbers)):
        new = _taken_in(commit, held, events)
        before = held.copy() if any(event.voided_at is not None for event in new) else held
        held |= {event.dedup_id: event for event in new}
        if commit.healing:
            state.begin_healing(commit.n)
            healing = list(held.values())
        elif commit.rebuilt:
            before_life = _earlier(view, key, birth, log, events)
            anew = recomputed(state, [*before_life, *(held.values() if healing is None else healing)])
            if healing is not None:
                anew.finish_healing(state)
            state, healing = anew, None
        else:
            state.replay(new, commit.applied_at, before, commit.unsettled)
            state.base.folded |= commit.left_out
            state.filled |= commit.filled_before is not None
        if commit.n in numbers:
            version = Version(birth, commit.n)
            yield version, Read("present", state.encode(), version)


def _earlier(
    view: FeatureView, key: str, birth: int, log: CommitLog, events: Mapping[str, Arrival]
) -> list[Event]:
    """Return the events of the item's earlier births that a window may still reach. Raises LogUnusable."""
    return earlier_events(view, [commit for commit in log.of(key) if commit.birth < birth], events.values())


def _taken_in(commit: Commit, held: Mapping[str, Event], events: Mapping[str, Arrival]) -> list[Event]:
    """Return the events that a commit applied, in order. Raises LogUnusable if the archive lacks one."""
    if commit.filled_before is not None:
        return [
            arrival.event
            for event_id, arrival in events.items()
            if arrival.in_time and arrival.taken_at < commit.filled_before and event_id not in held
        ]
    if any(event_id not in events for event_id in commit.event_ids):
        raise LogUnusable(NOT_ARCHIVED)
    return [events[event_id].event for event_id in commit.event_ids]


def _replayed(
    decision: Decision,
    definitions: Definitions,
    versions: Mapping[str, Mapping[Version, Read | str]],
) -> Replayed:
    keys = item_keys(definitions, application_of(decision))
    reads: dict[str, Read] = {}
    for name, of_view in keys.items():
        lost = decision.vector.states[name] == "unavailable"
        for key in of_view:
            version = decision.vector.versions.get(key)
            if lost or key not in decision.vector.versions:
                reads[key] = UNAVAILABLE
            elif version is None:
                reads[key] = ABSENT
            else:
                read = versions[key][version]
                if isinstance(read, str):
                    return Replayed(decision, reason=read)
                reads[key] = read
    vector = build(definitions, decode_items(definitions, reads, keys), keys, decision.request, decision.q)
    return Replayed(decision, list(differences(decision.vector, vector, definitions)), vector=vector)


def differences(
    served: FeatureVector, replayed: FeatureVector, definitions: Definitions
) -> Iterator[Difference]:
    """Yield the differences between two vectors: by bits of the values (NaN equals NaN), and by state."""
    for name in sorted(served.states.keys() | replayed.states.keys()):
        pair = served.states.get(name, "-"), replayed.states.get(name, "-")
        if pair[0] != pair[1]:
            yield Difference(name, *pair)
    for name, value, other in zip(definitions.features, served.values, replayed.values, strict=True):
        if value.hex() != other.hex():
            yield Difference(name, repr(value), repr(other))
