"""Feature values as of past moments on Spark: the embedded engine in every group of entities.

Spark reads the archive's objects in parallel and groups events and queries of some hundred entities; the embedded
engine answers each group. Results are bit-identical to one machine's because the code is the same. Spark SQL does
only filters and joins on a row number.
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
"""Queries per group, on average."""

LINES: Final = 50_000
"""Events read at a time."""

_ARCHIVE_COLUMNS: Final = "arrival", "refused", "body"


def session(name: str, cores: str = "local[*]") -> SparkSession:
    """Return the active Spark session, or start one: the cluster's, or a local one."""
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    settings = {"spark.ui.enabled": "false", "spark.driver.memory": "4g", "spark.sql.shuffle.partitions": "4"}
    settings |= dict.fromkeys(("spark.driver.host", "spark.driver.bindAddress"), "127.0.0.1")
    builder = SparkSession.builder.appName(name)
    if not os.environ.get("SPARK_ENV_LOADED"):  # spark-submit brings its own
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else workers use the path's python3
        builder = builder.master(cores).config(map=settings)
    return builder.getOrCreate()


class SparkArchive:
    """Archived events as a data frame with the columns of `event_table` and their order of arrival."""

    name = "spark"

    def __init__(
        self, spark: SparkSession, definitions: Definitions, source: Folder | Bucket, *, before: int
    ) -> None:
        """Only events that happened before this time (ms) are read; what became known later counts later."""
        self._spark, self._definitions, self._before = spark, definitions, before
        names = list(enumerate(source.names()))
        objects = spark.createDataFrame(names or [(0, "")], "place long, name string").repartition(
            max(len(names), 1)
        )
        read = partial(_read, source if names else None, definitions)
        self._lines = objects.mapInArrow(read, _spark_schema(_line_schema(definitions))).persist()
        self._events = self._lines.where("refused IS NULL").where(self._lines["at"] < before)

    def reading(self) -> Reading:
        """Counts of envelopes and of events refused by the contract."""
        counts = {row["refused"]: row["count"] for row in self._lines.groupBy("refused").count().collect()}
        refused = Counter({code: count for code, count in counts.items() if code is not None})
        return Reading(sum(counts.values()), refused)

    def count(self) -> int:
        """Return the number of events known before the moment, copies included."""
        from pyspark.sql import functions

        moment = functions.coalesce("voided_at", "at")
        known_from = functions.greatest(moment, "known_at")  # which skips nulls
        return int(self._events.where(known_from < self._before).count())

    def of_types(self, types: Iterable[str]) -> list[Event]:
        """Return whole events of these types in order of arrival, collected on the driver."""
        rows_of_types = self._events.where(self._events["type"].isin(sorted(types))).select("arrival", "body")
        rows = sorted((row["arrival"], row["body"]) for row in rows_of_types.collect())
        return [msgspec.msgpack.decode(bytes(body), type=Event) for _, body in rows]

    def point_in_time(self, queries: Sequence[PointInTimeQuery]) -> FeatureTable:
        """As `history.asof.point_in_time.point_in_time`; the answers are collected on the driver."""
        query_rows = query_table(self._definitions, queries)
        query_rows = query_rows.append_column("row", pa.array(range(len(queries)), pa.int64()))
        answers = features_on_spark(
            self._definitions, self._events, self._spark.createDataFrame(query_rows), len(queries)
        )
        table = answers.toArrow().sort_by("row")
        width = len(self._definitions.features)
        values = np.full((len(queries), width), np.nan)
        for column, name in enumerate(table.column_names[1:]):
            values[:, column] = table[name].to_numpy()
        fill_on_demand(self._definitions, queries, values)
        return FeatureTable(tuple(query.row_id for query in queries), self._definitions.features, values)


def features_on_spark(
    definitions: Definitions, events: DataFrame, queries: DataFrame, count: int
) -> DataFrame:
    """Return `row` and a column per windowed feature for each row of `queries` (`row`, `q` and the tokens).

    Columns are named by number, because a feature's name contains dots.
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
    return [f"f{number}" for number in range(first, first + len(view.features))]


def _answered(alone: Definitions, names: Sequence[str], events: pa.Table, queries: pa.Table) -> pa.Table:
    """Answer one group on its executor."""
    values = features_as_of(alone, events.sort_by("arrival"), queries)
    columns = {name: pa.array(np.ascontiguousarray(values[:, number])) for number, name in enumerate(names)}
    return pa.table({"row": queries["row"].cast(pa.int64()), **columns})


def _read(
    source: Folder | Bucket | None, definitions: Definitions, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Yield the events of objects; a refused event is a row with its code alone."""
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
        accepted_arrivals, events, refused = [], [], []
        for arrival, envelope in part:
            reading = Reading()
            accepted = list(accepted_events([envelope], definitions, reading))
            accepted_arrivals += [arrival] * len(accepted)
            events += accepted
            refused += [(arrival, code) for code in reading.refused]
        table = event_table(definitions, events)
        table = table.append_column("arrival", pa.array(accepted_arrivals, pa.int64()))
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
    return reduce(pa.Schema.append, map(pa.field, _ARCHIVE_COLUMNS, kinds), event_schema(definitions))


def _spark_schema(schema: pa.Schema) -> Any:
    """Convert the schema to Spark's types."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
