"""`python -m benchmarks.offline.engines ENGINE FOLDER`: 30 features of all labels, by one engine in its own process.

Prints CPU seconds, elapsed seconds and the process's peak memory as JSON, from reading the files to values in
memory; the values are kept as `ENGINE.npy`. Hand-written engines are specific to this task and derive nothing from
declarations.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.offline.world import DEFINITIONS, READY, WINDOWS
from candor.features.windows import parse
from history.asof.point_in_time import features_as_of
from tests import pair_join

NAMES = [f"{name}_{label}" for name in ("n", "sum", "mean", "max", "last", "distinct") for label in WINDOWS]


def candor(folder: Path) -> np.ndarray:
    """Features by the embedded engine, from the declarations."""
    events = pl.read_parquet(folder / "events.parquet")
    return features_as_of(DEFINITIONS, events, pl.read_parquet(folder / "labels.parquet"))


def polars(folder: Path) -> np.ndarray:
    """Features by hand-written polars: join, filter, group."""
    labels = pl.scan_parquet(folder / "labels.parquet").with_row_index("row").with_columns(*_starts())
    events = (
        pl.scan_parquet(folder / "events.parquet")
        .select("id", "at", "entity_customer", "integer_amount", "text_category")
        .join(labels.select("entity_customer").unique(), on="entity_customer", how="semi")
        .unique("id", keep="any")
    )
    longest = pl.min_horizontal(f"from_{label}" for label in WINDOWS)
    pairs = (
        labels.join(events, on="entity_customer")
        .filter(pl.col("at") < pl.col("q"), pl.col("at") >= longest)
        .sort("at", "id")
    )
    features = pairs.group_by("row").agg(*_aggregates())
    table = labels.select("row").join(features, on="row", how="left").sort("row")
    zeros = [name for name in NAMES if name.split("_")[0] in ("n", "sum", "distinct")]
    return (
        table.with_columns(pl.col(zeros).fill_null(0))
        .select(pl.col(NAMES).cast(pl.Float64))
        .collect()
        .to_numpy()
    )


def _starts() -> list[pl.Expr]:
    windows = [parse(label) for label in WINDOWS]
    return [
        ((pl.col("q") - window.length) // window.hop * window.hop).alias(f"from_{window.label}")
        for window in windows
    ]


def _aggregates() -> list[pl.Expr]:
    amount, category = pl.col("integer_amount"), pl.col("text_category")
    expressions = []
    for label in WINDOWS:
        inside = pl.col("at") >= pl.col(f"from_{label}")
        amounts = amount.filter(inside)
        expressions += [
            inside.sum().alias(f"n_{label}"),
            amounts.sum().alias(f"sum_{label}"),
            (amounts.sum() / inside.sum()).alias(f"mean_{label}"),
            amounts.max().alias(f"max_{label}"),
            amounts.last().alias(f"last_{label}"),
            category.filter(inside).n_unique().alias(f"distinct_{label}"),
        ]
    return expressions


def by_duckdb(folder: Path) -> np.ndarray:
    """Features by hand-written SQL on DuckDB."""
    windows = [parse(label) for label in WINDOWS]
    starts = ", ".join(
        f"q - {window.length} - (q - {window.length}) % {window.hop} AS from_{window.label}"
        for window in windows
    )
    least = ", ".join(f"from_{label}" for label in WINDOWS)
    kinds = {
        "n": "count(*) FILTER (WHERE {0})",
        "sum": "coalesce(sum(integer_amount) FILTER (WHERE {0}), 0)",
        "mean": "sum(integer_amount) FILTER (WHERE {0}) / count(*) FILTER (WHERE {0})",
        "max": "max(integer_amount) FILTER (WHERE {0})",
        "last": 'arg_max(integer_amount, ("at", id)) FILTER (WHERE {0})',
        "distinct": "count(DISTINCT text_category) FILTER (WHERE {0})",
    }
    inside = {label: f'"at" >= from_{label}' for label in WINDOWS}
    aggregates = ", ".join(
        f"{text.format(inside[label])} AS {name}_{label}" for name, text in kinds.items() for label in WINDOWS
    )
    columns = ", ".join(
        f"coalesce({name}, 0)::DOUBLE"
        if name.split("_")[0] in ("n", "sum", "distinct")
        else f"{name}::DOUBLE"
        for name in NAMES
    )
    query = f"""
        WITH labels AS (SELECT row_number() OVER () - 1 AS row, q, entity_customer, {starts} FROM '{folder}/labels.parquet'),
        events AS (SELECT DISTINCT ON (id) * FROM '{folder}/events.parquet' SEMI JOIN labels USING (entity_customer)),
        found AS (
            SELECT row, {aggregates} FROM labels JOIN events USING (entity_customer)
            WHERE "at" < q AND "at" >= least({least}) GROUP BY row
        )
        SELECT {columns} FROM labels LEFT JOIN found USING (row) ORDER BY row
    """
    with duckdb.connect() as engine:
        columns_by_name = engine.sql(query).fetchnumpy()
    return np.column_stack([np.ma.filled(column, np.nan) for column in columns_by_name.values()])


def by_ibis(folder: Path) -> np.ndarray:
    """The declarations compiled to one join by ibis, on DuckDB: the embedded engine until ADR 0021."""
    events = pq.read_table(folder / "events.parquet")
    return pair_join.features_by_join(DEFINITIONS, events, pq.read_table(folder / "labels.parquet"))


def last_values(folder: Path) -> np.ndarray:
    """Newest of 30 precomputed values, from declarations."""
    events = pl.read_parquet(folder / "ready.parquet").drop("event_timestamp")
    return features_as_of(READY, events, pl.read_parquet(folder / "ready_labels.parquet"))


ENGINES: dict[str, Callable[[Path], np.ndarray]] = {
    "candor": candor,
    "polars": polars,
    "duckdb": by_duckdb,
    "ibis": by_ibis,
    "last_values": last_values,
}


def main(engine: str, folder: Path) -> None:
    """Measure one engine; print the measurement."""
    began, cpu = time.perf_counter(), time.process_time()
    values = ENGINES[engine](folder)
    spent = {"cpu_s": time.process_time() - cpu, "elapsed_s": time.perf_counter() - began}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.save(folder / f"{engine}.npy", values)
    print(json.dumps({**spent, "peak_bytes": peak, "rows": len(values)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
