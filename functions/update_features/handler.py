"""SQS → feature items: applies a batch of the lender's events."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from candor.clock import DAY, SystemClock
from candor.edge.messages import Message, ingest_messages
from candor.edge.stale import StaleItem, StaleQueue
from candor.store.dynamodb import DynamoFeatureStore
from candor.updates import Retention
from lender import DEFINITIONS

LOGGER = Logger()
METRICS = Metrics()
STORE = DynamoFeatureStore(os.environ["FEATURES_TABLE"])
SYNCHRONOUS_STORE = DynamoFeatureStore(os.environ["SYNCHRONOUS_TABLE"])
RETENTION = Retention(event_ids=int(os.environ["REDELIVERY_HORIZON_DAYS"]) * DAY)
WRITERS = 8
"""Items written concurrently: a batch waits for DynamoDB, not for Python."""
QUEUE_URL = os.environ["EVENTS_QUEUE_URL"]
DLQ_URL = os.environ["EVENTS_DLQ_URL"]
SQS = boto3.client("sqs", config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 2}))
STALE_ITEMS = StaleQueue(SQS.send_message_batch, os.environ["STALE_ITEMS_URL"])
CLOCK = SystemClock()


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Apply events; permanent errors go to the DLQ with their reason, failed messages are redelivered."""
    messages = [Message(record["messageId"], record["body"].encode()) for record in event["Records"]]
    outcome = ingest_messages(
        messages,
        DEFINITIONS,
        STORE,
        CLOCK,
        RETENTION,
        synchronous_store=SYNCHRONOUS_STORE,
        writers=WRITERS,
    )
    # Only redelivered events would report their stale items again.
    unsent = STALE_ITEMS.send(StaleItem(key, CLOCK.now_ms()) for key in outcome.stale)
    for message, reason in outcome.refused:
        LOGGER.warning(
            "refused", extra={"message_id": message.id, "code": reason.code, "field": reason.field}
        )
        attributes = {"code": reason.code, "detail": reason.detail, "field": reason.field or "-"}
        SQS.send_message(
            QueueUrl=DLQ_URL,
            MessageBody=message.body.decode(),
            MessageAttributes={k: {"DataType": "String", "StringValue": v} for k, v in attributes.items()},
        )
    for message, wait_s in outcome.early:
        SQS.send_message(QueueUrl=QUEUE_URL, MessageBody=message.body.decode(), DelaySeconds=wait_s)
    for message, cause in outcome.failed:
        LOGGER.warning("failed", extra={"message_id": message.id, "cause": cause})
    METRICS.add_metric("EventsRefused", MetricUnit.Count, len(outcome.refused))
    METRICS.add_metric("EventsFailed", MetricUnit.Count, len(outcome.failed))
    METRICS.add_metric("EventsEarly", MetricUnit.Count, len(outcome.early))
    METRICS.add_metric("EventsTooLate", MetricUnit.Count, outcome.too_late)
    METRICS.add_metric("EventsErased", MetricUnit.Count, outcome.erased)
    METRICS.add_metric("EntitiesStale", MetricUnit.Count, len(outcome.stale))
    METRICS.add_metric("StaleItemsUnsent", MetricUnit.Count, unsent)
    again = messages if unsent else [message for message, _ in outcome.failed]
    return {"batchItemFailures": [{"itemIdentifier": message.id} for message in again]}
