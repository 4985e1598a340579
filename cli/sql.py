"""`candor sql`: query the archive's tables with SQL."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
import duckdb
from rich.console import Console
from rich.table import Table

from cli.archive_store import FOLDER, open_store
from cli.options import common
from cli.output import one_line, print_json
from cli.progress import Progress
from cli.stage import Stage
from cli.token_hashes import TokenHashes, replacements
from history.archive.stores import BucketStore, FolderStore
from history.archive.tables import TABLES, ArchiveTable
from lender import DEFINITIONS


@click.command("sql")
@click.argument("query")
@click.option("--archive", "folder", type=FOLDER, help="A copy of the archive, instead of the stage's own.")
@click.option("--rows", default=1_000, show_default=True, help="Print at most this many rows.")
@click.option(
    "--with-tokens", is_flag=True, help="Print tokens of persons and devices, and messages as they came."
)
@common
def sql_command(
    stage: Stage, query: str, folder: Path | None, rows: int, *, with_tokens: bool, as_json: bool
) -> None:
    """Run one SELECT in DuckDB's SQL on the tables events, decisions and commits.

    Only the tables that QUERY names are fetched, as of the last `candor archive compact`.

    Tokens of persons and devices are replaced by hashes. Within a query equal tokens have equal hashes, so they join
    and group; in another query they differ. hidden('TOKEN') is the hash of a token that you have.
    """
    check(query)
    hashes = None if with_tokens else TokenHashes(DEFINITIONS)
    names, result_rows = _query(open_store(stage, folder), query, rows + 1, hashes)
    if as_json:
        print_json({"columns": names, "rows": [[_plain(cell) for cell in row] for row in result_rows[:rows]]})
    else:
        _print(names, result_rows[:rows])
    if len(result_rows) > rows:
        click.echo(f"there are more than {rows} rows: add a LIMIT, or raise --rows", err=True)


def _query(
    store: BucketStore | FolderStore, query: str, most: int, hashes: TokenHashes | None
) -> tuple[list[str], list[Any]]:
    """Column names and the first `most` rows of the result; with `hashes` no table has tokens."""
    with (
        tempfile.TemporaryDirectory() as name,
        Progress() as progress,
        one_line(duckdb.Error),
        duckdb.connect() as engine,
    ):
        if hashes is not None:
            hashes.register(engine)
        else:  # the same query runs with both
            engine.execute("CREATE MACRO hidden(token) AS token")
        for table in TABLES:
            if re.search(rf"\b{table.name}\b", query):
                paths = _download(store, table, Path(name), progress)
                _register(engine, table, paths, hidden=hashes is not None)
        result = engine.execute(query)
        return [column[0] for column in result.description or ()], result.fetchmany(most)


def check(query: str) -> None:
    """Raise ClickException unless it is one SELECT."""
    with one_line(duckdb.Error):
        statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise click.ClickException("give one SELECT: this only reads")


def _register(
    engine: duckdb.DuckDBPyConnection, table: ArchiveTable, paths: Sequence[Path], *, hidden: bool
) -> None:
    """Create a view over the files; a column that a file lacks is null there."""
    engine.register(f"{table.name}_columns", table.schema.empty_table())
    view = f"SELECT *, NULL::DATE AS day FROM {table.name}_columns"  # noqa: S608 - our own names
    if paths:
        files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        parts = f"read_parquet([{files}], union_by_name = true, hive_partitioning = true)"
        view = f"{view} UNION ALL BY NAME SELECT * FROM {parts}"  # noqa: S608 - our own names
    if hidden:
        view = f"SELECT * {replacements(table)} FROM ({view})"  # noqa: S608 - our own names
    engine.execute(f"CREATE VIEW {table.name} AS {view}")


def _download(
    store: BucketStore | FolderStore, table: ArchiveTable, folder: Path, progress: Progress
) -> list[Path]:
    names = sorted(name for name in store.stamps(table.table_prefix) if name.endswith(".parquet"))
    return [store.download(name, folder) for name in progress.each(table.name, names, len(names))]


def _print(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(*names)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console().print(table)


def _plain(cell: Any) -> Any:
    """JSON form of a cell: moments and unknown types as text, NaN as null."""
    if isinstance(cell, datetime | date):
        return cell.isoformat()
    if isinstance(cell, float) and not abs(cell) < float("inf"):
        return None
    try:
        json.dumps(cell, allow_nan=False)
    except (TypeError, ValueError):
        return str(cell)
    return cell
