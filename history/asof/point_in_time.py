"""Feature values as of past moments, computed set-based from the lender's declarations.

No code of the online path is used: the engine restates the window arithmetic and has no tiles. Shared are the
declarations and `Aggregation.value`, the only finalizer, so equal integer parts give equal bits. The cost grows with
events, queries and features, not with their pairs: an entity with a tenth of all events is no special case.
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
from history.asof.bitemporal import counted_streams
from history.asof.events import Knowledge, PointInTimeQuery, entity_column, event_table, query_table
from history.asof.expiry import history_starts, overflows
from history.asof.families import aggregate, finalize
from history.asof.ranges import Ints
from history.asof.selection import ViewWindows, window_start
from history.asof.stream import EventStream, ViewQueries, view_stream

LEAK_MS: Final = 30 * DAY
"""Look-ahead (ms) of the deliberately leaky join."""

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
    """Feature values in the order of the queries: `values[i][j]` is feature `names[j]` of row `row_ids[i]`, float64."""

    row_ids: tuple[str, ...]
    names: tuple[str, ...]
    values: np.ndarray

    def vector(self, row: int) -> tuple[float, ...]:
        """Return one row as Python floats."""
        return tuple(self.values[row].tolist())


def point_in_time(
    definitions: Definitions,
    events: Iterable[Event],
    queries: Sequence[PointInTimeQuery],
    *,
    knowledge: Knowledge = "at_moment",
    leaky: bool = False,
) -> FeatureTable:
    """Return every feature of every query, from accepted events in order of arrival (duplicates included).

    `knowledge`: as known at each query's moment, by `Event.known_from`; or "ever", as known at any time since. Every
    query has a row: an entity without events gets the values of an empty window. `leaky=True` also counts what
    happened and became known up to 30 days after the moment: wrong on purpose, to show that a comparison can fail.
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
    """Return the features of tables: `events` as of `event_table`, `queries` with `q` (ms) and token columns.

    One row per query in order, one column per feature; on-demand features stay NaN. Without a column `known_at` every
    event is known from its own moment.
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
    """Write one view's features into their columns; rows without the entity have empty windows."""
    out[:] = empty_values(view)
    for counted, answered in counted_streams(stream, queries, earliest_of(view, queries)):
        _fill(view, counted, answered, out)
    too_many = overflows(view, stream, queries)
    if too_many is not None:
        out[queries.row[too_many]] = np.nan


def earliest_of(view: FeatureView, queries: ViewQueries) -> Ints | None:
    """Return the first moment that any window of each query holds; None where a window has no left edge."""
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
    """Return one view's features of entities at moments: one row per pair of token and moment (ms), in order."""
    columns = {
        "q": pa.array([q for _, q in pairs], pa.int64()),
        entity_column(view.entity.name): pa.array([token for token, _ in pairs], pa.string()),
    }
    alone = definitions.only(view)
    return features_as_of(alone, event_table(alone, events), pa.table(columns), knowledge=knowledge)


def empty_values(view: FeatureView) -> list[float]:
    """Feature values of a view without events."""
    values = (feature.aggregation for feature in view.features)
    return [aggregation.value((None,) * len(aggregation.parts), 0) for aggregation in values]


def _fill(view: FeatureView, stream: EventStream, queries: ViewQueries, out: np.ndarray) -> None:
    windows = ViewWindows(view, stream, queries)
    for column, feature in enumerate(view.features):
        leaves = feature.aggregation.leaves
        parts = [part for leaf in leaves for part in aggregate(windows, leaf, feature.window)]
        out[queries.row, column] = finalize(feature.aggregation, parts, queries.q)


def fill_on_demand(definitions: Definitions, queries: Sequence[PointInTimeQuery], values: np.ndarray) -> None:
    """Compute on-demand features with the online path's functions, from checkout and windowed values."""
    if not definitions.on_demand:
        return
    width = len(definitions.features) - len(definitions.on_demand)
    names = definitions.features[:width]
    for row, query in enumerate(queries):
        features: Mapping[str, Any] = dict(zip(names, values[row, :width].tolist(), strict=True))
        for column, feature in enumerate(definitions.on_demand, width):
            values[row, column] = feature.value(query.application.checkout, features)
