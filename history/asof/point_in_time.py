"""Feature values as of past moments, set-based, from the lender's declarations alone.

Nothing of the online path takes part: the window arithmetic is restated by the engine, and no tile exists. What is
shared is the declarations and `Aggregation.value`, the one finaliser, so that equal integer parts give equal bits. The
cost grows with events, questions and features, not with their pairs: a merchant with a tenth of all events is nothing special.
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
from history.asof.bitemporal import standing
from history.asof.events import Knowledge, Question, asked_table, entity_column, event_table
from history.asof.finish import finished
from history.asof.living import history_begins, overflows
from history.asof.parts import Parts, start_of
from history.asof.ranges import Ints
from history.asof.stream import Asked, Stream, streamed

LEAK_MS: Final = 30 * DAY
"""How far the deliberately wrong join looks into the future."""

__all__ = [
    "LEAK_MS",
    "FeatureTable",
    "Knowledge",
    "Question",
    "event_table",
    "features_as_of",
    "point_in_time",
]


@dataclass(frozen=True)
class FeatureTable:
    """Answers in the order of the questions: `values[i][j]` is feature `names[j]` of row `row_ids[i]`, float64."""

    row_ids: tuple[str, ...]
    names: tuple[str, ...]
    values: np.ndarray

    def vector(self, row: int) -> tuple[float, ...]:
        """One row as Python floats."""
        return tuple(self.values[row].tolist())


def point_in_time(
    definitions: Definitions,
    events: Iterable[Event],
    questions: Sequence[Question],
    *,
    knowledge: Knowledge = "at_moment",
    leaky: bool = False,
) -> FeatureTable:
    """Every feature of every question, from the accepted events in order of arrival (duplicates included).

    `knowledge`: what was known at each question's moment, by `Event.known_from`; or with "ever" what was true then, whenever
    it became known. No question is ever lost: an entity without events gets the values of an empty window. `leaky=True`
    also counts what happened and became known up to 30 days after the moment: wrong on purpose, to show that a comparison can fail.
    """
    asked = asked_table(definitions, questions)
    table = event_table(definitions, events)
    values = features_as_of(definitions, table, asked, knowledge=knowledge, leaky=leaky)
    fill_on_demand(definitions, questions, values)
    return FeatureTable(tuple(question.row_id for question in questions), definitions.features, values)


def features_as_of(
    definitions: Definitions,
    events: pa.Table | pl.DataFrame,
    asked: pa.Table | pl.DataFrame,
    *,
    knowledge: Knowledge = "at_moment",
    leaky: bool = False,
) -> np.ndarray:
    """The same of tables: `events` as `event_table` has them, `asked` with `q` (ms) and a column of tokens per entity.

    A row for each question in order and a column per feature; those that are computed on demand stay NaN. Without a column
    `known_at` every event is known from its own moment.
    """
    happened, questions = _frame(events), _frame(asked)
    values = np.full((len(questions), len(definitions.features)), np.nan, order="F")
    column = 0
    for view in definitions.views:
        width = len(view.features)
        stream, wanted = streamed(view, happened, questions, knowledge, LEAK_MS if leaky else 0)
        wanted = replace(wanted, begin=history_begins(view, stream, wanted))
        _answer(view, stream, wanted, values[:, column : column + width])
        column += width
    return values


def _frame(table: pa.Table | pl.DataFrame) -> pl.DataFrame:
    if isinstance(table, pl.DataFrame):
        return table
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


def _answer(view: FeatureView, stream: Stream, asked: Asked, out: np.ndarray) -> None:
    """One view's features into their columns; rows without the entity have empty windows."""
    out[:] = empty_values(view)
    for counted, mine in standing(stream, asked, earliest_of(view, asked)):
        _fill(view, counted, mine, out)
    too_many = overflows(view, stream, asked)
    if too_many is not None:
        out[asked.row[too_many]] = np.nan


def earliest_of(view: FeatureView, asked: Asked) -> Ints | None:
    """The first moment that any window of each question holds; None where there is no left edge."""
    starts = [start_of(asked.q, feature.window) for feature in view.features]
    found = [start for start in starts if start is not None]
    return np.min(found, axis=0) if len(found) == len(starts) else None


def features_of(
    view: FeatureView,
    definitions: Definitions,
    events: Iterable[Event],
    asked: Sequence[tuple[str, int]],
    *,
    knowledge: Knowledge = "at_moment",
) -> np.ndarray:
    """One view's features of entities at moments: `asked` holds tokens and moments (ms); a row for each of them, in order."""
    columns = {
        "q": pa.array([q for _, q in asked], pa.int64()),
        entity_column(view.entity.name): pa.array([token for token, _ in asked], pa.string()),
    }
    alone = definitions.only(view)
    return features_as_of(alone, event_table(alone, events), pa.table(columns), knowledge=knowledge)


def empty_values(view: FeatureView) -> list[float]:
    """What a view's features are where nothing happened."""
    values = (feature.aggregation for feature in view.features)
    return [aggregation.value((None,) * len(aggregation.parts), 0) for aggregation in values]


def _fill(view: FeatureView, stream: Stream, asked: Asked, out: np.ndarray) -> None:
    parts = Parts(view, stream, asked)
    for place, feature in enumerate(view.features):
        mine = [part for leaf in feature.aggregation.leaves for part in parts.of(leaf, feature.window)]
        out[asked.row, place] = finished(feature.aggregation, mine, asked.q)


def fill_on_demand(definitions: Definitions, questions: Sequence[Question], values: np.ndarray) -> None:
    """The very functions of the online path, on the parsed checkout and the windowed values."""
    if not definitions.on_demand:
        return
    width = len(definitions.features) - len(definitions.on_demand)
    names = definitions.features[:width]
    for row, question in enumerate(questions):
        features: Mapping[str, Any] = dict(zip(names, values[row, :width].tolist(), strict=True))
        for place, feature in enumerate(definitions.on_demand, width):
            values[row, place] = feature.value(question.application.checkout, features)
