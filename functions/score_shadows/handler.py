"""The decisions' stream → the archive: scores decisions by all shadow bundles, off the checkout path."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from candor.edge.shadows import shadow_lines
from candor.edge.streams import archive, batch_failures, dead_letter, decision_of, parse_records
from candor.errors import BundleRefused
from candor.model.bundle import Bundle
from candor.registry.artifacts import read_bundle, s3_client
from candor.registry.registry import Registry
from candor.underwriting import LoadedBundle

LOGGER = Logger()
METRICS = Metrics()
STREAM = os.environ["SHADOWS_STREAM"]
DLQ_URL = os.environ["STREAMS_DLQ_URL"]
BUNDLES = os.environ["BUNDLES_BUCKET"]
REGISTRY = Registry(os.environ["REGISTRY_TABLE"])
CONFIG = Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 3})
FIREHOSE = boto3.client("firehose", config=CONFIG)
SQS = boto3.client("sqs", config=CONFIG)
S3 = s3_client()
READY: dict[str, LoadedBundle | None] = {}


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Score decisions; unreadable records go to the DLQ. An outage of S3 or the registry fails the whole batch."""
    records = event["Records"]
    METRICS.add_metric("RecordsReceived", MetricUnit.Count, len(records))
    shadows = [shadow for sha in REGISTRY.pointer().shadows if (shadow := load_shadow(sha))]
    decisions, refused = parse_records(records, decision_of)
    for place, reason in refused.items():
        LOGGER.error("refused", extra={"code": reason.code, "field": reason.field})
        SQS.send_message(QueueUrl=DLQ_URL, **dead_letter(records[place], reason))
    scored = {place: shadow_lines(decision, shadows) for place, decision in decisions.items()}
    lines = {place: b"\n".join(scores) for place, scores in scored.items() if scores}
    failed = archive(FIREHOSE.put_record_batch, STREAM, lines)
    shadows_scored = sum(map(len, scored.values()))
    METRICS.add_metric("ShadowsScored", MetricUnit.Count, shadows_scored)
    METRICS.add_metric("ShadowsPassedOver", MetricUnit.Count, len(decisions) * len(shadows) - shadows_scored)
    METRICS.add_metric("RecordsFailed", MetricUnit.Count, len(failed))
    return batch_failures(records, failed)


def load_shadow(sha: str) -> LoadedBundle | None:
    """Load a shadow once; None for good if its bundle is refused."""
    if sha not in READY:
        try:
            READY[sha] = LoadedBundle(sha, Bundle.from_bytes(read_bundle(S3, BUNDLES, sha), sha))
        except BundleRefused as error:
            LOGGER.warning("shadow refused", extra={"bundle": sha, "cause": str(error)})
            METRICS.add_metric("ShadowsRefused", MetricUnit.Count, 1)
            READY[sha] = None
    return READY[sha]
