"""First step of a training run: its name, moment, URIs and jobs, and the steps already done."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.clock import SystemClock
from candor.registry.artifacts import s3_client
from candor.registry.prepare import Preparation
from candor.registry.registry import Registry
from candor.registry.runs import SageMakerJobReader

LOGGER = Logger()
METRICS = Metrics()
PREPARATION = Preparation(
    s3=s3_client(),
    jobs=SageMakerJobReader(),
    registry=Registry(os.environ["REGISTRY_TABLE"]),
    archive=os.environ["ARCHIVE_BUCKET"],
    training=os.environ["TRAINING_BUCKET"],
    bundles=os.environ["BUNDLES_BUCKET"],
    prefix=os.environ["JOB_PREFIX"],
)


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Input of the next steps; an invalid request fails the run before any job starts."""
    METRICS.add_metric("RetrainingsAsked", MetricUnit.Count, 1)
    run = PREPARATION.prepare(event, SystemClock().now_ms())
    LOGGER.info("prepared", extra={"run": run})
    return run
