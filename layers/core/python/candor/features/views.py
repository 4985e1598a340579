"""Views: aggregations over windows of one entity's events."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec

from candor.clock import DAY
from candor.errors import DefinitionError
from candor.features.aggregations import Aggregation
from candor.features.event_types import Entity, EventType
from candor.features.view_checks import check_score, check_view
from candor.features.windows import Spelling, Window, declared, duration
from candor.regulation import Agency

SHARDS = 4
"""Number of items over which a hot entity's events are spread; the reader merges them."""

EXPIRES_AFTER = 730 * DAY
SWEEP_MARGIN = 90 * DAY
"""Delay (ms) of an item's deletion after its history expires, for late events."""


class Feature(msgspec.Struct, frozen=True):
    """One aggregation over one window."""

    name: str
    aggregation: Aggregation
    window: Window


class FeatureView(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Aggregations over windows of one entity's events.

    A `synchronous` view is updated in the same transaction as the decision, so concurrent checkouts see each other. A
    history without events for `expires_after` no longer counts (default: two years, or the longest window if that is
    longer); those of hot entities do not expire. The left edge of `exact_windows` moves by the millisecond; with more
    than `max_events` events in them the view is unavailable. The data of a view with an `agency` are a consumer report:
    a notice of adverse action discloses its use.
    """

    name: str
    entity: Entity
    events: Sequence[EventType]
    aggregations: Sequence[Aggregation]
    windows: Sequence[Spelling]
    synchronous: bool = False
    expires_after: str | None = None
    exact_windows: bool = False
    max_events: int | None = None
    agency: Agency | None = None

    def __post_init__(self) -> None:
        if self.synchronous and self.entity.hot:
            raise DefinitionError(
                f'view "{self.name}" is synchronous: decisions would queue for the items of hot "{self.entity.name}"'
            )
        check_view(self)
        if self.agency is not None and self.agency.score is not None:
            check_score(
                self.name, {feature.name: feature.aggregation for feature in self.features}, self.agency.score
            )

    def spans(self) -> list[Window]:
        """The windows in declared order. Raises `DefinitionError`."""
        return [declared(spelling, exact=self.exact_windows) for spelling in self.windows]

    @cached_property
    def features(self) -> list[Feature]:
        """Features by aggregation, then window, in declared order."""
        windows = self.spans()
        return [Feature(f"{self.name}.{a.label}.{w.label}", a, w) for a in self.aggregations for w in windows]

    @cached_property
    def expiry_ms(self) -> int | None:
        """Time (ms) after its last event at which a history expires; None: never."""
        if self.entity.hot:
            return None
        if self.expires_after is None:
            return max(EXPIRES_AFTER, *(window.reach for window in self.spans()))
        return duration(self.expires_after)

    @property
    def item_expiry_ms(self) -> int | None:
        """Retention (ms, wall clock) of an item after its last commit; None: for good."""
        return None if self.expiry_ms is None else self.expiry_ms + SWEEP_MARGIN

    @cached_property
    def event_types(self) -> frozenset[str]:
        return frozenset(event.name for event in self.events)

    def spec(self) -> dict[str, Any]:
        """JSON form of everything that affects a value, and nothing else."""
        rare: dict[str, Any] = {}
        if self.expires_after is not None and any(f.window.length is None for f in self.features):
            rare["expires_after"] = self.expiry_ms
        if self.max_events is not None:
            rare["max_events"] = self.max_events
        return {
            "name": self.name,
            "entity": [self.entity.name, self.entity.key],
            "events": sorted(self.event_types),
            "features": [[f.name, f.aggregation.spec(), *_edges(f.window)] for f in self.features],
            **rare,
        }

    @cached_property
    def version(self) -> str:
        """First 8 hex digits of the hash of definition and layout; part of every stored key."""
        return digest(self.spec() if self.shards == 1 else [self.spec(), self.shards])[:8]

    @property
    def shards(self) -> int:
        """Number of items per entity."""
        return SHARDS if self.entity.hot else 1

    def item_keys(self, entity_key: str) -> tuple[str, ...]:
        """Keys of all items of an entity."""
        key = f"{self.name}@{self.version}#{entity_key}"
        return (key,) if self.shards == 1 else tuple(f"{key}/{shard}" for shard in range(self.shards))

    def item_key(self, entity_key: str, event_id: str) -> str:
        """Key of the item that holds an event of the entity, and its void."""
        keys = self.item_keys(entity_key)
        return keys[zlib.crc32(event_id.encode()) % len(keys)]


def _edges(window: Window) -> list[int | None]:
    return [window.length, window.hop, *([window.delay] if window.delay else [])]


def digest(spec: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `spec`."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
