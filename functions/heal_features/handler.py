"""SQS → feature items: rebuilds stale items from the archive."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from candor.clock import SystemClock
from candor.edge.messages import Message
from candor.edge.stale import StaleQueue
from candor.store.dynamodb import DynamoFeatureStore
from history.healing.healer import Healer
from history.healing.worker import HealingWorker
from history.index.bucket import ArchiveBucket
from history.index.read import READERS, ArchiveIndex
from lender import DEFINITIONS

LOGGER = Logger()
METRICS = Metrics()
METRICS.set_default_dimensions(stage=os.environ["STAGE"])
PATIENCE = Config(
    connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3}, max_pool_connections=READERS
)
WORKER = HealingWorker(
    healer=Healer(
        index=ArchiveIndex(ArchiveBucket(boto3.client("s3", config=PATIENCE), os.environ["ARCHIVE_BUCKET"])),
        definitions=DEFINITIONS,
        store=DynamoFeatureStore(os.environ["FEATURES_TABLE"]),
        synchronous_store=DynamoFeatureStore(os.environ["SYNCHRONOUS_TABLE"]),
        clock=SystemClock(),
    ),
    queue=StaleQueue(boto3.client("sqs", config=PATIENCE).send_message_batch, os.environ["STALE_ITEMS_URL"]),
    clock=SystemClock(),
    archive_lag_s=int(os.environ["ARCHIVE_LAG_S"]),
    retry_s=int(os.environ["RETRY_S"]),
)


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Advance the healing of each item by one step; failed messages are redelivered."""
    messages = [Message(record["messageId"], record["body"].encode()) for record in event["Records"]]
    outcome = WORKER.work(messages)
    for message, cause in outcome.failed:
        LOGGER.warning("not healed", extra={"message_id": message.id, "cause": cause})
    METRICS.add_metric("ItemsHealed", MetricUnit.Count, len(outcome.healed))
    METRICS.add_metric("ItemsNotHealed", MetricUnit.Count, len(outcome.failed))
    for seconds in outcome.healed:
        METRICS.add_metric("HealingSeconds", MetricUnit.Seconds, seconds)
    for seconds in outcome.stale:
        METRICS.add_metric("StaleSeconds", MetricUnit.Seconds, seconds)
    return {"batchItemFailures": [{"itemIdentifier": message.id} for message, _ in outcome.failed]}
