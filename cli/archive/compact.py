"""`candor archive compact`: the archive's tables brought up to date."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cli.archive_store import FOLDER, open_store
from cli.options import common
from cli.output import one_line, print_rows
from cli.progress import Shown
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.archive.tables import TABLES, ArchiveTable, compact


@click.command("compact")
@click.option("--archive", "folder", type=FOLDER, help="A copy of the archive, instead of the stage's own.")
@common
def compact_command(stage: Stage, folder: Path | None, *, as_json: bool) -> None:
    """Bring the tables up to date: one Parquet file for each day of arrival.

    Days to which nothing came are left as they are; a day to which something came late is written anew. Run it as often
    as you like: once a day is enough.
    """
    store = open_store(stage, folder)
    with one_line(ArchiveDamaged), Shown() as shown:
        done = [asdict(compact(store, table, _telling(shown, table))) for table in TABLES]
    print_rows(done, "tables", as_json=as_json)


def _telling(shown: Shown, table: ArchiveTable) -> Any:
    return lambda done, total: shown.told(table.name, done, total)
