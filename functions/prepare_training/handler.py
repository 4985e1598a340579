"""First step of a retraining: names the run, its moment and its places."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.clock import SystemClock
from candor.edge.retraining import prepare_run

LOGGER = Logger()
METRICS = Metrics()
ARCHIVE = os.environ["ARCHIVE_BUCKET"]
TRAINING = os.environ["TRAINING_BUCKET"]


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """What the next steps need; a wrong input fails the run before anything is started."""
    METRICS.add_metric("RetrainingsAsked", MetricUnit.Count, 1)
    run = prepare_run(event, ARCHIVE, TRAINING, SystemClock().now_ms())
    LOGGER.info("prepared", extra={"run": run})
    return run
