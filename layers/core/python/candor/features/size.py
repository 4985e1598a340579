"""Upper bound on the size of an item, under any traffic.

DynamoDB refuses items above 400 KB, and no further event of the entity could be applied then: a view whose items
could exceed it is refused when it is declared. All figures are upper bounds in bytes of MessagePack.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from copy import copy
from itertools import chain

import msgspec

from candor.features.aggregations import LIST, MOST_ID_BYTES, NUMBER, Aggregation
from candor.features.composed import Ratio
from candor.features.distinct import MOST_EXACT, Distinct
from candor.features.plan import ViewPlan, plan_of
from candor.features.views import FeatureView

LARGEST_ITEM = 400 * 1_024
"""DynamoDB's limit on the size of an item."""

RING_IDS = 256
"""Number of recent event ids kept in the item; beyond it, deduplication uses marker items."""

MOST_RAW = 128
"""Largest number of raw events in an item."""

MOST_VOIDS = 20
"""Largest number of waiting voids of folded events, and of those of events that have not arrived."""

_ID = 2 + MOST_ID_BYTES
_LENGTH = 5
_POSITION = 3
LARGEST_IDS = 99 * (2 * MOST_ID_BYTES + len("~void") + 3)
"""Largest attribute `ids`: JSON, up to two bytes per printable character. The updater commits at most 99 events; a
bulk job as many as fit."""

_ATTRIBUTES = 512 + 256
"""The entity's token in the key, and all attribute names and numbers besides the state."""

_MEMBERS = 128
"""Codec, version, moments, flags, checksum, and list headers."""


def most_bytes(view: FeatureView, ahead: int) -> int:
    """Upper bound on an item's bytes in DynamoDB, while no event is more than `ahead` ms past the fold horizon."""
    plan = plan_of(view)
    row = most_row(plan)
    tiles = sum(number * max(row, most_tile(view, span)) for span, number in plan.most_tiles(ahead))
    raw = MOST_RAW + (view.max_events or 0)
    voids = MOST_VOIDS * (NUMBER + row) + MOST_VOIDS * (NUMBER + _ID) + raw * (NUMBER + _POSITION)
    state = raw * row + voids + tiles + RING_IDS * 2 * NUMBER + _MEMBERS
    return len(view.name.encode()) + _ATTRIBUTES + state + LARGEST_IDS


def most_row(plan: ViewPlan) -> int:
    """Upper bound on the bytes of a raw event."""
    return LIST + NUMBER + _ID + sum(aggregation.most_taken for aggregation in plan.sourced)


def most_tile(view: FeatureView, span: int) -> int:
    """Upper bound on the bytes of a tile of `span` ms."""
    texts = declared_texts(view)
    return LIST + NUMBER + _LENGTH + sum(a.most_bytes(span, texts) for a in plan_of(view).aggregations)


def listed_bytes(event_id: str) -> int:
    """Bytes of an id in the attribute `ids`."""
    return len(msgspec.json.encode(event_id)) + 1


def declared_texts(view: FeatureView) -> dict[str, int]:
    """Number of allowed texts by field, for fields that all the view's events restrict."""
    texts_by_field = defaultdict(list)
    for event in view.events:
        for name, kind in event.fields.items():
            texts_by_field[name].append(kind.of)
    return {
        name: len(set(chain.from_iterable(texts))) for name, texts in texts_by_field.items() if all(texts)
    }


def largest_exact(view: FeatureView, ahead: int) -> int:
    """Largest `exact` of the view's distinct counts that keeps items within DynamoDB's limit; 0 if there is none."""

    def outgrows(exact: int) -> bool:
        aggregations = [_exact_to(exact, aggregation) for aggregation in view.aggregations]
        return most_bytes(msgspec.structs.replace(view, aggregations=aggregations), ahead) > LARGEST_ITEM

    return bisect_left(range(1, MOST_EXACT + 1), 1, key=outgrows)


def _exact_to(exact: int, aggregation: Aggregation) -> Aggregation:
    """A copy of the aggregation with `exact` lowered in its distinct counts."""
    limited = copy(aggregation)
    if isinstance(limited, Distinct):
        limited.exact = min(limited.exact, exact)
    if isinstance(limited, Ratio):
        limited.of, limited.to = _exact_to(exact, limited.of), _exact_to(exact, limited.to)
    return limited
