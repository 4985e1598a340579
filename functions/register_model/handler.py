"""After training: verifies the bundle that the job left, puts it before the gate and registers it."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.clock import SystemClock
from candor.model.packed import gate, unpack
from candor.store.artifacts import keep_bundle, newest_model, s3_client
from candor.store.lifecycle import CANDIDATE, REFUSED
from candor.store.registry import Registry
from candor.store.registry_items import Registration
from lender import DEFINITIONS

LOGGER = Logger()
METRICS = Metrics()
S3 = s3_client()
REGISTRY = Registry(os.environ["REGISTRY_TABLE"])
BUNDLES = os.environ["BUNDLES_BUCKET"]
MIN_AUC = float(os.environ["GATE_MIN_AUC"])


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Name, verdict and metrics of the run's bundle. Safe to call again: the same bundle has the same name."""
    METRICS.add_metric("ModelsOffered", MetricUnit.Count, 1)
    bundle = unpack(newest_model(S3, event["model_uri"]))
    bundle.require(DEFINITIONS)
    passed, metrics = gate(bundle, MIN_AUC), dict(bundle.metrics)
    keep_bundle(S3, BUNDLES, bundle.sha, bundle.to_bytes())
    state = CANDIDATE if passed else REFUSED
    REGISTRY.register(Registration(bundle.sha, state, metrics, event["run"], SystemClock().now_ms()))
    LOGGER.info(state, extra={"run": event["run"], "bundle": bundle.sha, "auc": metrics.get("auc")})
    METRICS.add_metric("ModelsRegistered", MetricUnit.Count, int(passed))
    return {"bundle": bundle.sha, "passed": passed, "metrics": metrics}
