"""Views: aggregations over windows of one entity's events, declared once; everything else is derived from them."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec

from candor.errors import DefinitionError
from candor.features.aggregations import Aggregation
from candor.features.event_types import MAX_SKEW, Entity, EventType
from candor.features.size import most_bytes
from candor.features.view_checks import check_view
from candor.features.windows import Window, parse

SHARDS = 4
"""Items that the events of one hot entity are spread over; the reader merges them."""


class Feature(msgspec.Struct, frozen=True):
    """One aggregation over one window."""

    name: str
    aggregation: Aggregation
    window: Window


class FeatureView(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Aggregations over windows of one entity's events.

    The items of a `synchronous` view are committed with the decision itself: checkouts of one burst see each other.
    """

    name: str
    entity: Entity
    events: Sequence[EventType]
    aggregations: Sequence[Aggregation]
    windows: Sequence[str]
    synchronous: bool = False

    def __post_init__(self) -> None:
        if self.synchronous and self.entity.hot:
            raise DefinitionError(
                f'view "{self.name}" is synchronous: decisions would queue for the items of hot "{self.entity.name}"'
            )
        check_view(self)

    @cached_property
    def features(self) -> list[Feature]:
        """Aggregation-major, windows in declared order."""
        windows = [parse(label) for label in self.windows]
        return [Feature(f"{self.name}.{a.label}.{w.label}", a, w) for a in self.aggregations for w in windows]

    @cached_property
    def event_types(self) -> frozenset[str]:
        return frozenset(event.name for event in self.events)

    def spec(self) -> dict[str, Any]:
        """JSON form: everything that changes a value, nothing else."""
        return {
            "name": self.name,
            "entity": [self.entity.name, self.entity.key],
            "events": sorted(self.event_types),
            "features": [
                [f.name, f.aggregation.spec(), f.window.length, f.window.hop] for f in self.features
            ],
        }

    @cached_property
    def version(self) -> str:
        """First 8 hex digits of the hash of definition and layout; part of every stored key."""
        return digest(self.spec() if self.shards == 1 else [self.spec(), self.shards])[:8]

    @cached_property
    def most_bytes(self) -> int:
        """Most bytes that an item may have, whatever the traffic."""
        return most_bytes(self, MAX_SKEW)

    @property
    def shards(self) -> int:
        """Number of items that hold one entity."""
        return SHARDS if self.entity.hot else 1

    def item_keys(self, entity_key: str) -> tuple[str, ...]:
        """Keys of all stored items of one entity."""
        key = f"{self.name}@{self.version}#{entity_key}"
        return (key,) if self.shards == 1 else tuple(f"{key}/{shard}" for shard in range(self.shards))

    def item_key(self, entity_key: str, event_id: str) -> str:
        """Key of the item that holds an event of the entity; its void belongs there too."""
        keys = self.item_keys(entity_key)
        return keys[zlib.crc32(event_id.encode()) % len(keys)]


def digest(spec: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `spec`."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
