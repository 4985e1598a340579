"""Archived events by the item that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from candor.features.definitions import Definitions
from history.archive.events import Arrival

Items = Mapping[str, Mapping[str, Arrival]]
"""Archived events by item key and `dedup_id`, in order of arrival: the first copy of each."""


def items_of(arrivals: Iterable[Arrival], definitions: Definitions, keys: Iterable[str]) -> Items:
    """Return the archived events of these items."""
    items: dict[str, dict[str, Arrival]] = {key: {} for key in keys}
    for arrival in arrivals:
        add_arrival(items, arrival, definitions)
    return items


def add_arrival(
    items: Mapping[str, MutableMapping[str, Arrival]], arrival: Arrival, definitions: Definitions
) -> None:
    """Add an event to each of these items that it belongs to."""
    event = arrival.event
    for view in definitions.views_by_event[event.type]:
        token = event.entities.get(view.entity.name)
        if token is not None and (held := items.get(view.item_key(token, event.id))) is not None:
            held.setdefault(event.dedup_id, arrival)
