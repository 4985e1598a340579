"""After the evaluation: evaluates the gates, stores the bundle with its evaluation, and registers it."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.clock import SystemClock
from candor.model.policy_document import PolicyDocument
from candor.registry.artifacts import s3_client
from candor.registry.gates import Thresholds
from candor.registry.register import Registrar
from candor.registry.registry import Registry
from candor.registry.sagemaker_registry import sagemaker_client
from lender import DEFINITIONS, REASONS, policy

LOGGER = Logger()
METRICS = Metrics()
REGISTRAR = Registrar(
    s3=s3_client(),
    sagemaker=sagemaker_client(),
    registry=Registry(os.environ["REGISTRY_TABLE"]),
    training=os.environ["TRAINING_BUCKET"],
    bundles=os.environ["BUNDLES_BUCKET"],
    packages=os.environ["MODEL_PACKAGE_GROUP"],
    image=os.environ["TRAINING_IMAGE"],
    thresholds=Thresholds.parse(os.environ["GATES"]),
    definitions=DEFINITIONS,
    policy=PolicyDocument.of(policy(), REASONS),
)


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Register the run's bundle; returns its name and verdict. Idempotent: the name is the bundle's hash."""
    METRICS.add_metric("ModelsOffered", MetricUnit.Count, 1)
    registration = REGISTRAR.register(event["run"], event["packed_uri"], SystemClock().now_ms())
    LOGGER.info("registered" if registration["passed"] else "refused", extra=registration)
    METRICS.add_metric("ModelsRegistered", MetricUnit.Count, int(registration["passed"]))
    METRICS.add_metric("ModelsWithoutLineage", MetricUnit.Count, int(registration["no_lineage"] is not None))
    return registration
