"""`candor archive compact`: update the archive's Parquet tables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cli.archive_store import FOLDER, open_store
from cli.options import common
from cli.output import one_line, print_rows
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.archive.tables import TABLES, ArchiveTable, compact


@click.command("compact")
@click.option("--archive", "folder", type=FOLDER, help="A copy of the archive, instead of the stage's own.")
@common
def compact_command(stage: Stage, folder: Path | None, *, as_json: bool) -> None:
    """Bring the tables up to date: one Parquet file for each day of arrival.

    Days without arrivals stay as they are; a day with late arrivals is rewritten. Once a day is enough.
    """
    store = open_store(stage, folder)
    with one_line(ArchiveDamaged), Progress() as progress:
        results = [asdict(compact(store, table, _progress_of(progress, table))) for table in TABLES]
    print_rows(results, "tables", as_json=as_json)


def _progress_of(progress: Progress, table: ArchiveTable) -> Any:
    return lambda done, total: progress.update(table.name, done, total)
