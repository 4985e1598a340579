"""`candor archive …` and `candor sql`: what is derived from the archive, and what an analyst asks of its tables."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Any

import boto3
import click
import duckdb
from rich.console import Console
from rich.table import Table

from candor.clock import SystemClock
from cli.options import Shown, common, one_line, print_json
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.archive.stores import BucketStore, FolderStore
from history.archive.tables import TABLES, ArchiveTable, compact
from history.index.bucket import Vanished
from history.index.kinds import KINDS, Kind
from history.index.refresh import refresh

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.group()
def archive() -> None:
    """What is derived from the archive of events, decisions and commits: its tables, and its index by entity."""


@archive.command("compact")
@click.option("--archive", "folder", type=FOLDER, help="A copy of the archive, instead of the stage's own.")
@common
def compact_command(stage: Stage, folder: Path | None, *, as_json: bool) -> None:
    """Bring the tables up to date: one Parquet file for each day of arrival.

    Days to which nothing came are left as they are; a day to which something came late is written anew. Run it as often
    as you like: once a day is enough.
    """
    store = _store(stage, folder)
    with one_line(ArchiveDamaged), Shown() as shown:
        done = [asdict(compact(store, table, _telling(shown, table))) for table in TABLES]
    _print_results(done, "tables", as_json=as_json)


@archive.command("index")
@common
def index_command(stage: Stage, *, as_json: bool) -> None:
    """Bring the index by entity up to date: stale items are healed and rebuilt from it.

    A deployed stage does so by itself every hour. Run this where nothing runs by a schedule, and once before the first
    deployment on a large archive. Stop it anywhere and start it again.
    """
    with one_line(ArchiveDamaged, Vanished), Shown() as shown:
        results = [_refreshed(stage, kind, shown) for kind in KINDS]
    _print_results(results, "index", as_json=as_json)


def _refreshed(stage: Stage, kind: Kind, shown: Shown) -> dict[str, Any]:
    written = itertools.count(1)

    def go_on() -> bool:
        shown.told(f"index of {kind.name}", next(written))
        return True

    return asdict(refresh(stage.archive_bucket, kind, SystemClock().now_ms(), whole=True, go_on=go_on))


def _print_results(results: Sequence[dict[str, Any]], name: str, *, as_json: bool) -> None:
    if as_json:
        print_json({name: results})
        return
    table = Table(*results[0])
    for row in results:
        table.add_row(*map(str, row.values()))
    Console().print(table)


@click.command("sql")
@click.argument("query")
@click.option("--archive", "folder", type=FOLDER, help="A copy of the archive, instead of the stage's own.")
@click.option("--rows", default=1_000, show_default=True, help="Print so many rows at most.")
@common
def sql_command(stage: Stage, query: str, folder: Path | None, rows: int, *, as_json: bool) -> None:
    """Ask the tables events, decisions and commits one question, in DuckDB's SQL. Nothing can be changed.

    Only the tables that QUERY names are fetched, and only up to the last `candor archive compact`.
    """
    check(query)
    names, found = _asked(_store(stage, folder), query, rows + 1)
    if as_json:
        print_json({"columns": names, "rows": [[_plain(cell) for cell in row] for row in found[:rows]]})
    else:
        _print(names, found[:rows])
    if len(found) > rows:
        click.echo(f"there are more than {rows} rows: add a LIMIT, or raise --rows", err=True)


def _asked(store: BucketStore | FolderStore, query: str, most: int) -> tuple[list[str], list[Any]]:
    """Columns of the answer and its first rows."""
    with (
        tempfile.TemporaryDirectory() as name,
        Shown() as shown,
        one_line(duckdb.Error),
        duckdb.connect() as engine,
    ):
        for table in TABLES:
            if re.search(rf"\b{table.name}\b", query):
                _register(engine, table, _fetched(store, table, Path(name), shown))
        answer = engine.execute(query)
        return [column[0] for column in answer.description or ()], answer.fetchmany(most)


def check(query: str) -> None:
    """Raise ClickException unless it is one SELECT."""
    with one_line(duckdb.Error):
        statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise click.ClickException("give one SELECT: this only reads")


def _register(engine: duckdb.DuckDBPyConnection, table: ArchiveTable, paths: Sequence[Path]) -> None:
    """A view of the files; a column that a file does not have yet is null there."""
    engine.register(f"{table.name}_columns", table.schema.empty_table())
    view = f"SELECT *, NULL::DATE AS day FROM {table.name}_columns"  # noqa: S608 - our own names
    if paths:
        files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        parts = f"read_parquet([{files}], union_by_name = true, hive_partitioning = true)"
        view = f"{view} UNION ALL BY NAME SELECT * FROM {parts}"  # noqa: S608 - our own names
    engine.execute(f"CREATE VIEW {table.name} AS {view}")


def _fetched(store: BucketStore | FolderStore, table: ArchiveTable, folder: Path, shown: Shown) -> list[Path]:
    names = sorted(name for name in store.stamps(table.table_prefix) if name.endswith(".parquet"))
    return [store.download(name, folder) for name in shown.each(table.name, names, len(names))]


def _store(stage: Stage, folder: Path | None) -> BucketStore | FolderStore:
    if folder is not None:
        return FolderStore(folder)
    return BucketStore(boto3.client("s3"), stage.output("ArchiveBucketName"))


def _telling(shown: Shown, table: ArchiveTable) -> Any:
    return lambda done, total: shown.told(table.name, done, total)


def _print(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    told = Table(*names)
    for row in rows:
        told.add_row(*("" if cell is None else str(cell) for cell in row))
    Console().print(told)


def _plain(cell: Any) -> Any:
    """As JSON has it: moments as text, what it does not know as text, NaN as null."""
    if isinstance(cell, datetime | date):
        return cell.isoformat()
    if isinstance(cell, float) and not abs(cell) < float("inf"):
        return None
    try:
        json.dumps(cell, allow_nan=False)
    except (TypeError, ValueError):
        return str(cell)
    return cell
