"""Last step of a retraining, and a rollback: points the scorers at a registered bundle."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.clock import SystemClock
from candor.store.artifacts import require_bundle, s3_client
from candor.store.registry import Registry

LOGGER = Logger()
METRICS = Metrics()
S3 = s3_client()
REGISTRY = Registry(os.environ["REGISTRY_TABLE"])
BUNDLES = os.environ["BUNDLES_BUCKET"]


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """`bundle` becomes the champion by the word of `by`; an unknown or refused bundle fails the call."""
    METRICS.add_metric("PromotionsAsked", MetricUnit.Count, 1)
    require_bundle(S3, BUNDLES, event["bundle"])
    champion = REGISTRY.promote(event["bundle"], by=event["by"], at=SystemClock().now_ms())
    LOGGER.info("promoted", extra={"bundle": champion.bundle, "by": champion.by})
    return {"bundle": champion.bundle, "promoted_at": champion.promoted_at, "by": champion.by}
