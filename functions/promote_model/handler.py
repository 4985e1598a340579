"""Last step of a training run: promotes a bundle that passed its gates."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.clock import SystemClock
from candor.registry.artifacts import require_bundle, s3_client
from candor.registry.lifecycle import ApprovalRefused
from candor.registry.registry import Registry
from candor.registry.registry_table import PromotionConflict

LOGGER = Logger()
METRICS = Metrics()
S3 = s3_client()
REGISTRY = Registry(os.environ["REGISTRY_TABLE"])
BUNDLES = os.environ["BUNDLES_BUCKET"]
APPROVAL = os.environ["APPROVAL"]
TWO_PERSONS = "a second person must approve here: use `candor models promote` and `candor models approve`"
NOT_COMPARED = "another champion serves than the one that the bundle was compared with: start the run again"


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Promote `bundle`, as actor `by`; an unknown or refused bundle fails the call.

    So does a given `champion` that no longer serves: the comparison was with that one.
    """
    METRICS.add_metric("PromotionsAsked", MetricUnit.Count, 1)
    if APPROVAL == "second_person":
        raise ApprovalRefused(TWO_PERSONS)
    bundle, by = event["bundle"], event["by"]
    require_bundle(S3, BUNDLES, bundle)
    if "champion" in event and REGISTRY.pointer().bundle not in (event["champion"], bundle):
        raise PromotionConflict(NOT_COMPARED)
    champion = REGISTRY.promote(bundle, by=by, at=SystemClock().now_ms(), why="every gate passed")
    LOGGER.info("promoted", extra={"bundle": champion.bundle, "by": champion.by})
    return {"bundle": champion.bundle, "promoted_at": champion.promoted_at, "by": champion.by}
