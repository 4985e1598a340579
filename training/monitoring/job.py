"""`python -m training.monitoring`: the champion's monitoring report, as the schedule runs it in SageMaker Processing.

The environment names all locations: STAGE, REGISTRY_TABLE, BUNDLES_BUCKET, TRAINING_BUCKET, ARCHIVE_BUCKET. Writes
`report.html` and `report.json` into `output/monitoring` below `PROCESSING_ROOT` (default `/opt/ml/processing`), then
the metrics. It reads the current champion, so unlike the other jobs it has network access.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import boto3

from candor.clock import SystemClock
from candor.errors import CandorError
from candor.registry.artifacts import s3_client
from history.archive.events import ArchiveDamaged
from training.monitoring.metrics import publish
from training.monitoring.page import page
from training.monitoring.reading import report
from training.monitoring.signals import signals
from training.monitoring.stored import StageLocations, model_of, read_input


def main() -> int:
    """Entry point of the container; returns 1, with one line on standard error, when there is nothing to report."""
    from lender import DEFINITIONS  # the definitions of the image this runs in

    out = Path(os.environ.get("PROCESSING_ROOT", "/opt/ml/processing")) / "output/monitoring"
    buckets = (os.environ[f"{name}_BUCKET"] for name in ("BUNDLES", "TRAINING", "ARCHIVE"))
    locations, s3 = StageLocations(os.environ["REGISTRY_TABLE"], *buckets), s3_client()
    try:
        bundle, snapshot = model_of(s3, locations)
        monitoring = report(
            bundle, DEFINITIONS, snapshot, read_input(s3, locations), since=None, until=SystemClock().now_ms()
        )
    except (CandorError, ArchiveDamaged) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(monitoring.as_json(), indent=1, allow_nan=False) + "\n")
    (out / "report.html").write_text(page(monitoring), encoding="utf-8")
    cloudwatch: Any = boto3.client("cloudwatch")
    publish(cloudwatch, monitoring, os.environ["STAGE"])
    for signal in signals(monitoring):
        print(f"{signal.name}={signal.value:.4f} {signal.words}")
    return 0
