"""A view's items against the offline engine: entities drawn at random, as of now, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from candor.contracts import Application, Event
from candor.features.definitions import Definitions
from candor.features.event_types import Entity
from candor.features.vector import view_values
from candor.features.views import FeatureView
from candor.store.commits import Retention
from candor.store.protocol import FeatureStore
from history.point_in_time import Question, point_in_time


@dataclass(frozen=True)
class Verified:
    """Entities that were compared, those that differ, and those that could not be read as of that moment."""

    compared: int
    different: Sequence[str]
    unread: int


def drawn(events: Iterable[Event], view: FeatureView, count: int, seed: int = 0) -> list[str]:
    """Tokens of at most `count` entities that the view's events name, at random."""
    tokens = {event.entities.get(view.entity.name) for event in events if event.type in view.event_types}
    known = sorted(token for token in tokens if token is not None)
    return random.Random(seed).sample(known, min(count, len(known)))  # noqa: S311 - a run must be repeatable


def verify(
    definitions: Definitions,
    view: FeatureView,
    events: Sequence[Event],
    tokens: Sequence[str],
    store: FeatureStore,
    retention: Retention,
    q: int,
) -> Verified:
    """Compare the items of these entities at `q` (ms) with their archived events, in order of arrival."""
    offline = _offline(definitions.only(view), view, events, tokens, q)
    different, unread = [], 0
    for token in tokens:
        reads = list(store.load(view.item_keys(token)).values())
        state, values = view_values(view, reads, q, retention.items)
        if state == "unavailable":
            unread += 1
        elif state != "expired" and [value.hex() for value in values] != offline[token]:
            different.append(token)
    return Verified(len(tokens) - unread, different, unread)


def _offline(
    definitions: Definitions, view: FeatureView, events: Sequence[Event], tokens: Sequence[str], q: int
) -> Mapping[str, list[str]]:
    questions = [Question(token, q, naming(view.entity, token)) for token in tokens]
    # An item holds what was applied, whenever its moment was said to be known.
    table = point_in_time(definitions, events, questions, knowledge="ever")
    return {token: [value.hex() for value in table.vector(row)] for row, token in enumerate(table.row_ids)}


def naming(entity: Entity, token: str) -> Application:
    """Something that names this entity and nothing else where an application would."""
    found: Any = token
    for step in reversed(entity.key.split(".")):
        found = SimpleNamespace(**{step: found})
    return cast("Application", found)
