"""Every hour: updates the index of the archive, from which stale items are healed."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from candor.clock import SystemClock
from history.index.bucket import ArchiveBucket
from history.index.kinds import KINDS
from history.index.refresh import refresh

LOGGER = Logger()
METRICS = Metrics()
METRICS.set_default_dimensions(stage=os.environ["STAGE"])
PATIENCE = Config(connect_timeout=2, read_timeout=60, retries={"total_max_attempts": 3})
ARCHIVE = ArchiveBucket(boto3.client("s3", config=PATIENCE), os.environ["ARCHIVE_BUCKET"])
CLOCK = SystemClock()
OBJECT_MS = int(os.environ["OBJECT_SECONDS"]) * 1_000
"""Longest time (ms) to write an index object, which must end within the invocation."""


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Index new objects; with `whole` also those that came late, were rewritten or expired since the last run."""
    whole = bool(event.get("whole"))
    answers: dict[str, Any] = {}
    for kind in KINDS:
        result = refresh(
            ARCHIVE,
            kind,
            CLOCK.now_ms(),
            whole=whole,
            go_on=lambda: context.get_remaining_time_in_millis() > OBJECT_MS,
        )
        METRICS.add_metric("IndexObjectsWritten", MetricUnit.Count, result.written)
        METRICS.add_metric("IndexHoursBehind", MetricUnit.Count, result.behind)
        answers[kind.name] = vars(result)
    LOGGER.info("indexed", extra={"whole": whole, **answers})
    return answers
