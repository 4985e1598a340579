"""`candor dataset build`: a labelled training set from the archive, on this machine or on Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import click

from candor.clock import SystemClock, format_rfc3339
from candor.features.labels import FINAL_DUE
from cli.options import Moment, common
from cli.output import one_line, print_json, print_pairs
from cli.progress import Progress
from cli.stage import Stage
from history.archive.decisions import DECISIONS_PREFIX
from history.archive.events import EVENTS_PREFIX, ArchiveDamaged
from history.archive.objects import Bucket, Folder
from lender import DEFINITIONS
from training.dataset.build import MANIFEST, DatasetSpec, Embedded, NothingToLearn, select_views, write

SPARK: Final = Path(".cache/spark/bin/python")
"""Python of Spark's own environment, which `make spark` creates."""


@click.command("build")
@click.option("--labels", default=FINAL_DUE, show_default=True, help="The declared label that is `bad`.")
@click.option("--features", "views", multiple=True, help="Only these views; may be given more than once.")
@click.option("--as-of", type=Moment(), help="Use what was known before this moment. Default: now.")
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="Engine that computes the features.",
)
@click.option("--as-served", is_flag=True, help="Use the features that decisions were made on.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write into."
)
@click.option(
    "--archive",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A copy of the archive instead of the stage's: a folder with events/ and decisions/.",
)
@common
def build_command(stage: Stage, out: Path, *, as_json: bool, **options: Any) -> None:
    """Write dataset.parquet, series.parquet (days past due by month of each loan) and manifest.json.

    A row is a checkout whose label was mature by then, with its features as of its own moment. With --as-served it
    is a decision with the features it was made on; the manifest counts the rows that differ from point-in-time
    features.
    """
    as_of = SystemClock().now_ms() if options["as_of"] is None else options["as_of"]
    request = DatasetSpec(as_of, "cli", options["labels"])
    if options["engine"] == "spark":
        manifest = _on_spark(stage, out, request, options)
    else:
        manifest = _in_process(stage, out, request, options)
    if as_json:
        print_json(manifest)
    else:
        print_pairs(manifest)


def _in_process(stage: Stage, out: Path, request: DatasetSpec, options: dict[str, Any]) -> dict[str, Any]:
    with one_line(NothingToLearn, ArchiveDamaged), redirect_stdout(sys.stderr), Progress() as progress:
        definitions = select_views(DEFINITIONS, options["views"])
        events = _WithProgress(_objects(stage, options["archive"], EVENTS_PREFIX), progress)
        engine = Embedded(definitions, events, as_of=request.as_of)
        decisions = _objects(stage, options["archive"], DECISIONS_PREFIX) if options["as_served"] else None
        return write(definitions, engine, out, request, decisions=decisions)


class _WithProgress:
    """Objects of the archive, with progress reported while they are read."""

    def __init__(self, source: Folder | Bucket, progress: Progress) -> None:
        self._source, self._progress = source, progress

    def __iter__(self) -> Any:
        return self._progress.each("archive", self._source)


def _objects(stage: Stage, archive: Path | None, prefix: str) -> Folder | Bucket:
    return stage.archive(prefix) if archive is None else Folder(archive / prefix)


def _on_spark(stage: Stage, out: Path, request: DatasetSpec, options: dict[str, Any]) -> dict[str, Any]:
    """Run the module that a cluster runs, in Spark's own environment; returns the manifest."""
    if not SPARK.is_file():
        raise click.ClickException("Spark's environment is not there: create it with `make spark`")
    root = str(options["archive"]) if options["archive"] else f"s3://{stage.output('ArchiveBucketName')}"
    words = ["--as-of", format_rfc3339(request.as_of), "--run", request.run, "--labels", request.labels]
    words += [word for view in options["views"] for word in ("--features", view)]
    words += ["--engine", "spark", "--archive", f"{root}/{EVENTS_PREFIX}", "--out", str(out)]
    words += ["--as-served", "--decisions", f"{root}/{DECISIONS_PREFIX}"] if options["as_served"] else []
    _run([str(SPARK), "-m", "training.dataset", *words])
    manifest: dict[str, Any] = json.loads((out / MANIFEST).read_text())
    return manifest


def _run(command: Sequence[str]) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)  # noqa: S603 - our own module
    if done.returncode:
        raise click.ClickException("Spark did not write the data set: see above")
