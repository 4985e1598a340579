"""Feature values as of past moments, set-based, from the lender's declarations alone.

Nothing of the online path takes part: the window arithmetic is restated by the engine, and no tile exists. What is
shared is the declarations and `Aggregation.value`, the one finaliser, so that equal integer parts give equal bits. The
cost grows with events, queries and features, not with their pairs: a merchant with a tenth of all events is nothing special.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from candor.clock import DAY
from candor.contracts import Event
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from history.asof.aggregate import Aggregates, window_start
from history.asof.bitemporal import counted_streams
from history.asof.events import Knowledge, PointInTimeQuery, entity_column, event_table, query_table
from history.asof.expiry import history_starts, overflows
from history.asof.finalize import finalize
from history.asof.ranges import Ints
from history.asof.stream import EventStream, ViewQueries, view_stream

LEAK_MS: Final = 30 * DAY
"""How far the deliberately wrong join looks into the future."""

__all__ = [
    "LEAK_MS",
    "FeatureTable",
    "Knowledge",
    "PointInTimeQuery",
    "event_table",
    "features_as_of",
    "point_in_time",
]


@dataclass(frozen=True)
class FeatureTable:
    """Answers in the order of the queries: `values[i][j]` is feature `names[j]` of row `row_ids[i]`, float64."""

    row_ids: tuple[str, ...]
    names: tuple[str, ...]
    values: np.ndarray

    def vector(self, row: int) -> tuple[float, ...]:
        """One row as Python floats."""
        return tuple(self.values[row].tolist())


def point_in_time(
    definitions: Definitions,
    events: Iterable[Event],
    queries: Sequence[PointInTimeQuery],
    *,
    knowledge: Knowledge = "at_moment",
    leaky: bool = False,
) -> FeatureTable:
    """Every feature of every query, from the accepted events in order of arrival (duplicates included).

    `knowledge`: what was known at each query's moment, by `Event.known_from`; or with "ever" what was true then, whenever
    it became known. No query is ever lost: an entity without events gets the values of an empty window. `leaky=True`
    also counts what happened and became known up to 30 days after the moment: wrong on purpose, to show that a comparison can fail.
    """
    query_rows = query_table(definitions, queries)
    table = event_table(definitions, events)
    values = features_as_of(definitions, table, query_rows, knowledge=knowledge, leaky=leaky)
    fill_on_demand(definitions, queries, values)
    return FeatureTable(tuple(query.row_id for query in queries), definitions.features, values)


def features_as_of(
    definitions: Definitions,
    events: pa.Table | pl.DataFrame,
    queries: pa.Table | pl.DataFrame,
    *,
    knowledge: Knowledge = "at_moment",
    leaky: bool = False,
) -> np.ndarray:
    """The same of tables: `events` as `event_table` has them, `queries` with `q` (ms) and a column of tokens per entity.

    A row for each query in order and a column per feature; those that are computed on demand stay NaN. Without a column
    `known_at` every event is known from its own moment.
    """
    happened, rows = _frame(events), _frame(queries)
    values = np.full((len(rows), len(definitions.features)), np.nan, order="F")
    column = 0
    for view in definitions.views:
        width = len(view.features)
        stream, wanted = view_stream(view, happened, rows, knowledge, LEAK_MS if leaky else 0)
        wanted = replace(wanted, begin=history_starts(view, stream, wanted))
        _answer(view, stream, wanted, values[:, column : column + width])
        column += width
    return values


def _frame(table: pa.Table | pl.DataFrame) -> pl.DataFrame:
    if isinstance(table, pl.DataFrame):
        return table
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _answer(view: FeatureView, stream: EventStream, queries: ViewQueries, out: np.ndarray) -> None:
    """One view's features into their columns; rows without the entity have empty windows."""
    out[:] = empty_values(view)
    for counted, answered in counted_streams(stream, queries, earliest_of(view, queries)):
        _fill(view, counted, answered, out)
    too_many = overflows(view, stream, queries)
    if too_many is not None:
        out[queries.row[too_many]] = np.nan


def earliest_of(view: FeatureView, queries: ViewQueries) -> Ints | None:
    """The first moment that any window of each query holds; None where there is no left edge."""
    starts = [window_start(queries.q, feature.window) for feature in view.features]
    bounded = [start for start in starts if start is not None]
    return np.min(bounded, axis=0) if len(bounded) == len(starts) else None


def features_of(
    view: FeatureView,
    definitions: Definitions,
    events: Iterable[Event],
    pairs: Sequence[tuple[str, int]],
    *,
    knowledge: Knowledge = "at_moment",
) -> np.ndarray:
    """One view's features of entities at moments: `pairs` holds tokens and moments (ms); a row for each of them, in order."""
    columns = {
        "q": pa.array([q for _, q in pairs], pa.int64()),
        entity_column(view.entity.name): pa.array([token for token, _ in pairs], pa.string()),
    }
    alone = definitions.only(view)
    return features_as_of(alone, event_table(alone, events), pa.table(columns), knowledge=knowledge)


def empty_values(view: FeatureView) -> list[float]:
    """What a view's features are where nothing happened."""
    values = (feature.aggregation for feature in view.features)
    return [aggregation.value((None,) * len(aggregation.parts), 0) for aggregation in values]


def _fill(view: FeatureView, stream: EventStream, queries: ViewQueries, out: np.ndarray) -> None:
    parts = Aggregates(view, stream, queries)
    for place, feature in enumerate(view.features):
        integers = [part for leaf in feature.aggregation.leaves for part in parts.of(leaf, feature.window)]
        out[queries.row, place] = finalize(feature.aggregation, integers, queries.q)


def fill_on_demand(definitions: Definitions, queries: Sequence[PointInTimeQuery], values: np.ndarray) -> None:
    """The very functions of the online path, on the parsed checkout and the windowed values."""
    if not definitions.on_demand:
        return
    width = len(definitions.features) - len(definitions.on_demand)
    names = definitions.features[:width]
    for row, query in enumerate(queries):
        features: Mapping[str, Any] = dict(zip(names, values[row, :width].tolist(), strict=True))
        for place, feature in enumerate(definitions.on_demand, width):
            values[row, place] = feature.value(query.application.checkout, features)
