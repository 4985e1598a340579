"""How large an item may get: a bound that holds whatever the traffic.

DynamoDB refuses an item above 400 KB, and then nothing more of its entity could be applied: a view that could get there is
refused when it is declared. All figures are bytes of MessagePack, at their most.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from copy import copy
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from candor.features.aggregations import LIST, MOST_ID_BYTES, NUMBER, Aggregation
from candor.features.composed import Ratio
from candor.features.distinct import MOST_EXACT, Distinct
from candor.features.plan import ViewPlan, plan_of

if TYPE_CHECKING:
    from candor.features.views import FeatureView

LARGEST_ITEM = 400 * 1_024
"""DynamoDB refuses items above this."""

RING_IDS = 256
"""Recent event ids kept inside the item; beyond, deduplication moves to marker items."""

MOST_RAW = 128
"""More events never stay raw, however fast they come."""

MOST_VOIDS = 20
"""More voids never wait, of events that are folded and of events that never came."""

_ID = 2 + MOST_ID_BYTES
_LENGTH = 5
_POSITION = 3
_COMMIT = 99 * (2 * MOST_ID_BYTES + len("~void") + 3)
"""The attribute `ids`: JSON, where a printable character may take two bytes, of as many events as a commit takes."""

_ATTRIBUTES = 512 + 256
"""The entity's token in the key, and all names and numbers that stand beside the state."""

_MEMBERS = 128
"""Codec, version, moments, flags, checksum, and what stands in front of the lists."""


def most_bytes(view: FeatureView, ahead: int) -> int:
    """Most bytes of an item of the view, as DynamoDB counts them; `ahead` is how long (ms) the newest events lie after the line."""
    plan = plan_of(view)
    row = most_row(plan)
    tiles = sum(number * max(row, most_tile(view, span)) for span, number in plan.most_tiles(ahead))
    raw = MOST_RAW + (view.max_events or 0)
    voids = MOST_VOIDS * (NUMBER + row) + MOST_VOIDS * (NUMBER + _ID) + raw * (NUMBER + _POSITION)
    state = raw * row + voids + tiles + RING_IDS * 2 * NUMBER + _MEMBERS
    return len(view.name.encode()) + _ATTRIBUTES + state + _COMMIT


def most_row(plan: ViewPlan) -> int:
    """One raw event."""
    return LIST + NUMBER + _ID + sum(aggregation.most_taken for aggregation in plan.sourced)


def most_tile(view: FeatureView, span: int) -> int:
    """One tile of `span` ms."""
    texts = declared_texts(view)
    return LIST + NUMBER + _LENGTH + sum(a.most_bytes(span, texts) for a in plan_of(view).aggregations)


def declared_texts(view: FeatureView) -> dict[str, int]:
    """Number of different texts of each field that all the view's events bound."""
    texts_by_field = defaultdict(list)
    for event in view.events:
        for name, kind in event.fields.items():
            texts_by_field[name].append(kind.of)
    return {
        name: len(set(chain.from_iterable(texts))) for name, texts in texts_by_field.items() if all(texts)
    }


def largest_exact(view: FeatureView, ahead: int) -> int:
    """The largest `exact` that the view's distinct counts may all have in an item that DynamoDB takes; 0 if there is none."""

    def outgrows(exact: int) -> bool:
        aggregations = [_exact_to(exact, aggregation) for aggregation in view.aggregations]
        return most_bytes(msgspec.structs.replace(view, aggregations=aggregations), ahead) > LARGEST_ITEM

    return bisect_left(range(1, MOST_EXACT + 1), 1, key=outgrows)


def _exact_to(exact: int, aggregation: Aggregation) -> Aggregation:
    """The aggregation with distinct counts that are exact to as many values at most."""
    limited = copy(aggregation)
    if isinstance(limited, Distinct):
        limited.exact = min(limited.exact, exact)
    if isinstance(limited, Ratio):
        limited.of, limited.to = _exact_to(exact, limited.of), _exact_to(exact, limited.to)
    return limited
