"""Every few minutes: reverts the latest promotion or challenge if live metrics show harm."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from candor.clock import SystemClock
from candor.registry.guard import Guard, GuardLimits
from candor.registry.registry import Registry

LOGGER = Logger()
METRICS = Metrics()
PATIENCE = Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})
GUARD = Guard(
    registry=Registry(os.environ["REGISTRY_TABLE"]),
    cloudwatch=boto3.client("cloudwatch", config=PATIENCE),
    sns=boto3.client("sns", config=PATIENCE),
    topic=os.environ["NOTICES_TOPIC"],
    stage=os.environ["STAGE"],
    limits=GuardLimits.parse(os.environ["GUARD"]),
)


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Check the latest change; returns what was reverted and why."""
    outcome = GUARD.check(SystemClock().now_ms())
    METRICS.add_metric("ModelsTakenBack", MetricUnit.Count, int(outcome["taken_back"] is not None))
    LOGGER.info("guarded", extra=outcome)
    return outcome
