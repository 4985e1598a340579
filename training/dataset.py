"""`python -m training.dataset --as-of <RFC 3339> --run <name>`: archived events → the labelled training set.

Runs under SageMaker Processing's contract: reads `input/archive` and writes `output/dataset` below
`PROCESSING_ROOT` (default `/opt/ml/processing`). Nothing that happened or became known after `--as-of` is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from candor.clock import format_rfc3339, parse_rfc3339
from candor.errors import CandorError
from candor.features.views import Definitions
from history.archive import ArchiveDamaged, Reading, accepted_events, read_envelopes
from history.point_in_time import FeatureTable, point_in_time
from training.labels import Labelled, labelled_checkouts

FORMAT: Final = 1
DATASET: Final = "dataset.parquet"
MANIFEST: Final = "manifest.json"


class NothingToLearn(Exception):
    """No checkout has a known end before the moment asked for."""


def build(definitions: Definitions, archive: Path, out: Path, *, as_of: int, run: str) -> dict[str, Any]:
    """Write `dataset.parquet` and `manifest.json` into `out`; returns the manifest.

    One row a checkout, oldest first: `row_id`, `q`, `known_at` (ms), `bad` (0 or 1), `amount`, `finance_charge` (minor
    units), then every feature as float64 with NaN for missing. Raises NothingToLearn, ArchiveDamaged, DefinitionError.
    """
    reading = Reading()
    accepted = accepted_events(read_envelopes(archive), definitions, reading)
    events = [event for event in accepted if event.occurred_at < as_of]
    print(
        f"archive: {reading.envelopes} events, {reading.refused.total()} refused, {len(events)} before as-of"
    )
    rows, unreadable = labelled_checkouts(definitions, events, as_of)
    if not rows:
        raise NothingToLearn(
            f"no checkout has a known end before {format_rfc3339(as_of)}: load the lender's history first"
        )
    table = point_in_time(definitions, events, [row.question for row in rows])
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(_columns(rows, table), out / DATASET)
    manifest = {
        "format": FORMAT,
        "run": run,
        "as_of": format_rfc3339(as_of),
        "rows": len(rows),
        "bads": sum(row.bad for row in rows),
        "sha256": hashlib.sha256((out / DATASET).read_bytes()).hexdigest(),
        "definition_hash": definitions.hash,
        "window": [format_rfc3339(rows[0].question.q), format_rfc3339(rows[-1].question.q)],
        "events": len(events),
        "refused": dict(sorted(reading.refused.items())),
        "unreadable_checkouts": unreadable,
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def _columns(rows: Sequence[Labelled], table: FeatureTable) -> pa.Table:
    checkouts = [row.question.application.checkout for row in rows]
    columns: dict[str, Any] = {
        "row_id": pa.array(table.row_ids, pa.string()),
        "q": pa.array([row.question.q for row in rows], pa.int64()),
        "known_at": pa.array([row.known_at for row in rows], pa.int64()),
        "bad": pa.array([int(row.bad) for row in rows], pa.int8()),
        "amount": pa.array([checkout.total for checkout in checkouts], pa.int64()),
        "finance_charge": pa.array([checkout.offer.finance_charge for checkout in checkouts], pa.int64()),
    }
    for place, name in enumerate(table.names):
        columns[name] = pa.array(np.ascontiguousarray(table.values[:, place]), pa.float64())
    return pa.table(columns)


def main(arguments: Sequence[str] | None = None) -> int:
    """The container's entry; exit code 1 and one line on standard error when there is nothing to write."""
    from lender import DEFINITIONS  # the definitions of the image this runs in

    parser = argparse.ArgumentParser(prog="python -m training.dataset", description=__doc__)
    parser.add_argument(
        "--as-of", required=True, type=_moment, help="train on what was known before (RFC 3339)"
    )
    parser.add_argument("--run", default="manual", help="name of the run, for the manifest")
    asked = parser.parse_args(arguments)
    root = Path(os.environ.get("PROCESSING_ROOT", "/opt/ml/processing"))
    try:
        manifest = build(
            DEFINITIONS, root / "input/archive", root / "output/dataset", as_of=asked.as_of, run=asked.run
        )
    except (NothingToLearn, ArchiveDamaged, CandorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"dataset: {manifest['rows']} checkouts, {manifest['bads']} bad, sha256 {manifest['sha256'][:12]}")
    return 0


def _moment(text: str) -> int:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not RFC 3339: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
