"""`python -m training.dataset --as-of <RFC 3339> --run <name>`: archived events → the labelled training set.

Runs under SageMaker Processing's contract: reads `input/archive` and writes `output/dataset` below `PROCESSING_ROOT`
(default `/opt/ml/processing`). EMR Serverless calls it with `--engine spark`, `--archive s3://…` and `--out s3://…`.
Nothing that became known at `--as-of` or later is used, and for each row nothing that became known at its moment or
later.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from candor.clock import parse_rfc3339
from candor.errors import CandorError
from candor.features.definitions import Definitions
from candor.features.labels import FINAL_DUE
from history.archive.events import ArchiveDamaged
from training.dataset.build import (
    DatasetSpec,
    Embedded,
    NothingToLearn,
    engine_named,
    select_views,
    write,
)
from training.dataset.locations import objects_at, output_to


def build(definitions: Definitions, archive: Path, out: Path, *, as_of: int, run: str) -> dict[str, Any]:
    """`training.dataset.build.write` for a folder, with the embedded engine and the label `final_due`."""
    return write(definitions, Embedded(definitions, archive, as_of=as_of), out, DatasetSpec(as_of, run))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the container; returns 1, with one line on standard error, when there is nothing to write."""
    from lender import DEFINITIONS  # the definitions of the image this runs in

    options = _parser().parse_args(arguments)
    root = Path(os.environ.get("PROCESSING_ROOT", "/opt/ml/processing"))
    try:
        definitions = select_views(DEFINITIONS, options.features)
        source = objects_at(options.archive or str(root / "input/archive"))
        decisions = (
            objects_at(options.decisions or str(root / "input/decisions")) if options.as_served else None
        )
        engine = engine_named(options.engine, definitions, source, as_of=options.as_of)
        with output_to(options.out or str(root / "output/dataset")) as out:
            wanted = DatasetSpec(options.as_of, options.run, options.labels)
            manifest = write(definitions, engine, out, wanted, decisions=decisions)
    except (NothingToLearn, ArchiveDamaged, CandorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"dataset: {manifest['rows']} checkouts, {manifest['bads']} bad, sha256 {manifest['sha256'][:12]}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.dataset", description=__doc__)
    add = parser.add_argument
    add("--as-of", required=True, type=_moment, help="use only what was known before this moment (RFC 3339)")
    add("--run", default="manual", help="name of the run, for the manifest")
    add("--labels", default=FINAL_DUE, help="the declared label that becomes the column `bad`")
    add("--features", action="append", default=[], help="only these views; may be given more than once")
    add("--engine", choices=("local", "spark"), default="local", help="engine that computes the features")
    add(
        "--as-served",
        action="store_true",
        help="take only decided checkouts, with the features that their decisions were made on",
    )
    add("--archive", help="folder or s3://bucket/prefix of the archived events")
    add("--decisions", help="folder or s3://bucket/prefix of the archived decisions, for --as-served")
    add("--out", help="folder or s3://bucket/prefix to write into")
    return parser


def _moment(text: str) -> int:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not RFC 3339: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
