"""Verification of a view's items against the offline engine: a random sample of entities, as of now, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from candor.contracts import Event
from candor.features.definitions import Definitions
from candor.features.vector import view_values
from candor.features.views import FeatureView
from candor.store.protocol import FeatureStore
from history.asof.point_in_time import features_of


@dataclass(frozen=True)
class Verified:
    """Number of entities compared, those that differ, and the number that could not be read at that moment."""

    compared: int
    different: Sequence[str]
    unread: int


def drawn(events: Iterable[Event], view: FeatureView, count: int, seed: int = 0) -> list[str]:
    """Return tokens of at most `count` entities that the view's events name, at random."""
    tokens = {event.entities.get(view.entity.name) for event in events if event.type in view.event_types}
    known = sorted(token for token in tokens if token is not None)
    return random.Random(seed).sample(known, min(count, len(known)))  # noqa: S311 - a run must be repeatable


def verify(
    definitions: Definitions,
    view: FeatureView,
    events: Sequence[Event],
    tokens: Sequence[str],
    store: FeatureStore,
    q: int,
) -> Verified:
    """Compare the items of these entities at `q` (ms) with their archived events, in order of arrival."""
    offline = _offline(definitions, view, events, tokens, q)
    different, unread = [], 0
    for token in tokens:
        reads = list(store.load(view.item_keys(token)).values())
        state, values = view_values(view, reads, q)
        if state in {"unavailable", "stale"}:
            unread += 1
        elif [value.hex() for value in values] != offline[token]:
            different.append(token)
    return Verified(len(tokens) - unread, different, unread)


def _offline(
    definitions: Definitions, view: FeatureView, events: Sequence[Event], tokens: Sequence[str], q: int
) -> Mapping[str, list[str]]:
    # An item holds every applied event, whenever it became known.
    values = features_of(view, definitions, events, [(token, q) for token in tokens], knowledge="ever")
    return {token: [value.hex() for value in row] for token, row in zip(tokens, values.tolist(), strict=True)}
