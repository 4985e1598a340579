"""Feature values as of past moments on Spark: the embedded engine in every group of entities.

Spark reads the archive's objects side by side, brings the events and the queries of some hundred entities together, and the one
engine answers them there: what one machine says and what a cluster says has the same bits because it is the same code. Nothing is
asked of Spark's SQL but filters and joins on a row's number.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial, reduce
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from candor.contracts import Event
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from history.archive.events import ENVELOPE, Reading, accepted_events, read_lines
from history.archive.objects import Bucket, Folder
from history.asof.events import (
    PointInTimeQuery,
    entity_column,
    event_schema,
    event_table,
    field_column,
    plain_fields,
    query_table,
)
from history.asof.point_in_time import FeatureTable, empty_values, features_as_of, fill_on_demand

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PER_GROUP: Final = 5_000
"""Queries that one group answers, on average."""

LINES: Final = 50_000
"""Events that are read at a time."""

_READ_ALIKE: Final = "arrival", "refused", "body"


def session(name: str, cores: str = "local[*]") -> SparkSession:
    """Spark where this runs: a cluster's own, or this machine's."""
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    settings = {"spark.ui.enabled": "false", "spark.driver.memory": "4g", "spark.sql.shuffle.partitions": "4"}
    settings |= dict.fromkeys(("spark.driver.host", "spark.driver.bindAddress"), "127.0.0.1")
    builder = SparkSession.builder.appName(name)
    if not os.environ.get("SPARK_ENV_LOADED"):  # spark-submit brings its own
        os.environ.setdefault(
            "PYSPARK_PYTHON", sys.executable
        )  # else workers take whatever python3 the path has
        builder = builder.master(cores).config(map=settings)
    return builder.getOrCreate()


class SparkArchive:
    """The events of an archive as a data frame, in the columns of `event_table`, with their place in the order of arrival."""

    name = "spark"

    def __init__(
        self, spark: SparkSession, definitions: Definitions, source: Folder | Bucket, *, before: int
    ) -> None:
        """Only what happened before this moment (ms) is an event; what became known later of it counts later."""
        self._spark, self._definitions, self._before = spark, definitions, before
        names = list(enumerate(source.names()))
        objects = spark.createDataFrame(names or [(0, "")], "place long, name string").repartition(
            max(len(names), 1)
        )
        read = partial(_read, source if names else None, definitions)
        self._lines = objects.mapInArrow(read, _spark_schema(_line_schema(definitions))).persist()
        self._events = self._lines.where("refused IS NULL").where(self._lines["at"] < before)

    def reading(self) -> Reading:
        """What was read, and what the contract refused."""
        counts = {row["refused"]: row["count"] for row in self._lines.groupBy("refused").count().collect()}
        refused = Counter({code: count for code, count in counts.items() if code is not None})
        return Reading(sum(counts.values()), refused)

    def count(self) -> int:
        """Events that were known before the moment, copies included."""
        from pyspark.sql import functions

        moment = functions.coalesce("voided_at", "at")
        known_from = functions.greatest(moment, "known_at")  # which skips nulls
        return int(self._events.where(known_from < self._before).count())

    def of_types(self, types: Iterable[str]) -> list[Event]:
        """Whole events of these types in order of arrival, here on the driver."""
        rows_of_types = self._events.where(self._events["type"].isin(sorted(types))).select("arrival", "body")
        rows = sorted((row["arrival"], row["body"]) for row in rows_of_types.collect())
        return [msgspec.msgpack.decode(bytes(body), type=Event) for _, body in rows]

    def point_in_time(self, queries: Sequence[PointInTimeQuery]) -> FeatureTable:
        """As `history.asof.point_in_time.point_in_time`; the answers come together here, on the driver."""
        query_rows = query_table(self._definitions, queries)
        query_rows = query_rows.append_column("row", pa.array(range(len(queries)), pa.int64()))
        answers = features_on_spark(
            self._definitions, self._events, self._spark.createDataFrame(query_rows), len(queries)
        )
        table = answers.toArrow().sort_by("row")
        width = len(self._definitions.features)
        values = np.full((len(queries), width), np.nan)
        for place, name in enumerate(table.column_names[1:]):
            values[:, place] = table[name].to_numpy()
        fill_on_demand(self._definitions, queries, values)
        return FeatureTable(tuple(query.row_id for query in queries), self._definitions.features, values)


def features_on_spark(
    definitions: Definitions, events: DataFrame, queries: DataFrame, count: int
) -> DataFrame:
    """`row` and a column per windowed feature for each row of `queries`, which has `row`, `q` and the tokens.

    Columns are named by their number: a feature's name has dots.
    """
    groups = max(count // PER_GROUP, events.sparkSession.sparkContext.defaultParallelism)
    features, first = queries.select("row"), 0
    for view in definitions.views:
        features = features.join(
            _view(definitions.only(view), view, events, queries, first, groups), "row", "left"
        )
        empty = dict(zip(_names(view, first), empty_values(view), strict=True))
        features = features.fillna({name: value for name, value in empty.items() if value == value})  # noqa: PLR0124 - all but NaN
        first += len(view.features)
    return features


def _view(
    alone: Definitions, view: FeatureView, events: DataFrame, queries: DataFrame, first: int, groups: int
) -> DataFrame:
    from pyspark.sql import functions

    token = entity_column(view.entity.name)
    group = functions.pmod(functions.xxhash64(token), functions.lit(groups)).alias("bucket")
    fields = {field_column(*pair) for kind in view.events for pair in plain_fields(kind)}
    columns = ["arrival", "id", "type", "at", "voided_at", "known_at", token, *sorted(fields)]
    view_events = events.where(events[token].isNotNull() & events["type"].isin(sorted(view.event_types)))
    theirs = queries.where(queries[token].isNotNull()).select(group, "row", "q", token)
    schema = "row long" + "".join(f", {name} double" for name in _names(view, first))
    both = view_events.select(group, *columns).groupBy("bucket").cogroup(theirs.groupBy("bucket"))
    return both.applyInArrow(partial(_answered, alone, _names(view, first)), schema)


def _names(view: FeatureView, first: int) -> list[str]:
    return [f"f{place}" for place in range(first, first + len(view.features))]


def _answered(alone: Definitions, names: Sequence[str], events: pa.Table, queries: pa.Table) -> pa.Table:
    """One group, wherever Spark put it."""
    values = features_as_of(alone, events.sort_by("arrival"), queries)
    columns = {name: pa.array(np.ascontiguousarray(values[:, place])) for place, name in enumerate(names)}
    return pa.table({"row": queries["row"].cast(pa.int64()), **columns})


def _read(
    source: Folder | Bucket | None, definitions: Definitions, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Objects → their events; what the contract refuses is a row that names its code alone."""
    schema = _line_schema(definitions)
    for batch in batches:
        if source is None:
            continue
        for row in batch.to_pylist():
            yield from (part.cast(schema) for part in _lines_of(source, row, definitions))


def _lines_of(
    source: Folder | Bucket, row: dict[str, Any], definitions: Definitions
) -> Iterator[pa.RecordBatch]:
    envelopes = enumerate(read_lines(source.read([row["name"]]), ENVELOPE), row["place"] << 32)
    while part := list(islice(envelopes, LINES)):
        places, events, refused = [], [], []
        for arrival, envelope in part:
            reading = Reading()
            accepted = list(accepted_events([envelope], definitions, reading))
            places += [arrival] * len(accepted)
            events += accepted
            refused += [(arrival, code) for code in reading.refused]
        table = event_table(definitions, events)
        table = table.append_column("arrival", pa.array(places, pa.int64()))
        table = table.append_column("refused", pa.nulls(len(events), pa.string()))
        table = table.append_column("body", pa.array(map(msgspec.msgpack.encode, events), pa.binary()))
        nothing = pa.table(
            {
                "arrival": [at for at, _ in refused],
                "refused": pa.array([code for _, code in refused], pa.string()),
            }
        )
        yield from pa.concat_tables([table, nothing], promote_options="default").to_batches()


def _line_schema(definitions: Definitions) -> pa.Schema:
    kinds = (pa.int64(), pa.string(), pa.binary())
    return reduce(pa.Schema.append, map(pa.field, _READ_ALIKE, kinds), event_schema(definitions))


def _spark_schema(schema: pa.Schema) -> Any:
    """The same columns in Spark's words."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
