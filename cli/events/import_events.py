"""`candor events import`: bring past events from files, without code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import click

from cli.events.import_report import report
from cli.events.importer import Importer
from cli.options import common
from cli.output import one_line
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged


@click.command("import")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option(
    "--map",
    "mapping",
    type=click.File(encoding="utf-8"),
    help="How rows become events: a mapping in TOML.",
)
@click.option("--dry-run", is_flag=True, help="Read and check everything, write nothing.")
@click.option("--skip-refused", is_flag=True, help="Import the rest if some events are refused.")
@click.option("--resume", is_flag=True, help="End an interrupted import from the archive, without its files.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Groups of items written at a time.",
)
@common
def import_command(
    stage: Stage,
    paths: Sequence[str],
    mapping: TextIO | None,
    threads: int,
    *,
    dry_run: bool,
    skip_refused: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Import past events from PATH: files or folders of Parquet, CSV or JSON Lines, or s3://BUCKET/PREFIX.

    The mapping says which events a row makes. Every event is checked as the queue's consumer checks it, archived, and
    applied to its items beside live traffic; what the archive or an item holds already is not counted again. If any
    event is refused, nothing is written: see --dry-run and --skip-refused.

    An interrupted import continues when the same command is run again. Exit code 1 if events were refused, or an item
    could not be written.
    """
    if not resume and (not paths or mapping is None):
        raise click.UsageError("give the files and --map, or --resume")
    with Progress() as progress, one_line(ArchiveDamaged):
        importer = Importer(stage, progress, threads)
        if resume or mapping is None:
            summary = importer.resume()
        else:
            summary = importer.run(paths, mapping.read(), dry_run=dry_run, skip_refused=skip_refused)
    report(summary, as_json=as_json)
    if remedy := summary.remedy:
        raise click.ClickException(remedy)
