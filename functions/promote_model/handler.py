"""Last step of a training run: promotes a bundle that passed its gates."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.clock import SystemClock
from candor.registry.artifacts import s3_client
from candor.registry.promote import Promoter
from candor.registry.registry import Registry

LOGGER = Logger()
METRICS = Metrics()
PROMOTER = Promoter(
    s3=s3_client(),
    registry=Registry(os.environ["REGISTRY_TABLE"]),
    bundles=os.environ["BUNDLES_BUCKET"],
    approval=os.environ["APPROVAL"],
)


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Promote `bundle`, as actor `by`; `champion`, where given, is the one it was compared with."""
    METRICS.add_metric("PromotionsAsked", MetricUnit.Count, 1)
    compared_with = [event["champion"]] if "champion" in event else None
    champion = PROMOTER.promote(
        event["bundle"], by=event["by"], now_ms=SystemClock().now_ms(), compared_with=compared_with
    )
    LOGGER.info("promoted", extra={"bundle": champion.bundle, "by": champion.by})
    return {"bundle": champion.bundle, "promoted_at": champion.promoted_at, "by": champion.by}
