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
from cli.progress import Shown
from cli.stage import Stage
from history.archive.decisions import DECISIONS_PREFIX
from history.archive.events import EVENTS_PREFIX, ArchiveDamaged
from history.archive.objects import Bucket, Folder
from lender import DEFINITIONS
from training.dataset.build import MANIFEST, Asked, Embedded, NothingToLearn, limited, write

SPARK: Final = Path(".cache/spark/bin/python")
"""Spark's own environment, which `make spark` creates."""


@click.command("build")
@click.option("--labels", default=FINAL_DUE, show_default=True, help="The declared label that is `bad`.")
@click.option("--features", "views", multiple=True, help="Only these views; may be given more than once.")
@click.option("--as-of", type=Moment(), help="Use what was known before this moment. Default: now.")
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="What computes.",
)
@click.option("--as-served", is_flag=True, help="The features that decisions were made on.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write into."
)
@click.option(
    "--archive",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A copy of the archive instead of the stage's: a folder with events/ and decisions/.",
)
@common
def build_command(stage: Stage, out: Path, *, as_json: bool, **asked: Any) -> None:
    """Write dataset.parquet, series.parquet (days past due by month of each loan) and manifest.json.

    A row is a checkout whose label was mature by then, with its features as of its own moment. With --as-served it is
    a decision with the features that it was made on; the manifest says how many differ from those as of then.
    """
    as_of = SystemClock().now_ms() if asked["as_of"] is None else asked["as_of"]
    wanted = Asked(as_of, "cli", asked["labels"])
    if asked["engine"] == "spark":
        manifest = _on_spark(stage, out, wanted, asked)
    else:
        manifest = _here(stage, out, wanted, asked)
    if as_json:
        print_json(manifest)
    else:
        print_pairs(manifest)


def _here(stage: Stage, out: Path, wanted: Asked, asked: dict[str, Any]) -> dict[str, Any]:
    with one_line(NothingToLearn, ArchiveDamaged), redirect_stdout(sys.stderr), Shown() as shown:
        definitions = limited(DEFINITIONS, asked["views"])
        events = _Counted(_place(stage, asked["archive"], EVENTS_PREFIX), shown)
        engine = Embedded(definitions, events, as_of=wanted.as_of)
        decisions = _place(stage, asked["archive"], DECISIONS_PREFIX) if asked["as_served"] else None
        return write(definitions, engine, out, wanted, decisions=decisions)


class _Counted:
    """The archive's objects, told while they are read."""

    def __init__(self, source: Folder | Bucket, shown: Shown) -> None:
        self._source, self._shown = source, shown

    def __iter__(self) -> Any:
        return self._shown.each("archive", self._source)


def _place(stage: Stage, archive: Path | None, prefix: str) -> Folder | Bucket:
    return stage.archive(prefix) if archive is None else Folder(archive / prefix)


def _on_spark(stage: Stage, out: Path, wanted: Asked, asked: dict[str, Any]) -> dict[str, Any]:
    """The very module that a cluster runs, in Spark's own environment."""
    if not SPARK.is_file():
        raise click.ClickException("Spark's environment is not there: create it with `make spark`")
    root = str(asked["archive"]) if asked["archive"] else f"s3://{stage.output('ArchiveBucketName')}"
    words = ["--as-of", format_rfc3339(wanted.as_of), "--run", wanted.run, "--labels", wanted.labels]
    words += [word for view in asked["views"] for word in ("--features", view)]
    words += ["--engine", "spark", "--archive", f"{root}/{EVENTS_PREFIX}", "--out", str(out)]
    words += ["--as-served", "--decisions", f"{root}/{DECISIONS_PREFIX}"] if asked["as_served"] else []
    _run([str(SPARK), "-m", "training.dataset", *words])
    found: dict[str, Any] = json.loads((out / MANIFEST).read_text())
    return found


def _run(command: Sequence[str]) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)  # noqa: S603 - our own module
    if done.returncode:
        raise click.ClickException("Spark did not write the data set: see above")
