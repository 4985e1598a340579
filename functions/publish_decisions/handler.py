"""The decisions' stream → the archive and the bus: a line and a `checkout.decided` event per decision."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from candor.edge.bus import decided_entry, publish
from candor.edge.streams import (
    archive,
    batch_failures,
    dead_letter,
    decision_line,
    decision_record,
    parse_records,
)
from lender import DEFINITIONS

LOGGER = Logger()
METRICS = Metrics()
BUS = os.environ["EVENT_BUS_NAME"]
STREAM = os.environ["DECISIONS_STREAM"]
DLQ_URL = os.environ["STREAMS_DLQ_URL"]
CONFIG = Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 3})
EVENTS = boto3.client("events", config=CONFIG)
FIREHOSE = boto3.client("firehose", config=CONFIG)
SQS = boto3.client("sqs", config=CONFIG)


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Archive and publish decisions; unreadable records go to the DLQ, delivery resumes at the first failure."""
    records = [record for record in event["Records"] if record["eventName"] == "INSERT"]
    METRICS.add_metric("RecordsReceived", MetricUnit.Count, len(records))
    lines, unkept = parse_records(records, decision_line)
    entries, untold = parse_records(records, lambda it: decided_entry(decision_record(it), DEFINITIONS, BUS))
    for place, reason in (untold | unkept).items():
        LOGGER.error("refused", extra={"code": reason.code, "field": reason.field})
        SQS.send_message(QueueUrl=DLQ_URL, **dead_letter(records[place], reason))
    failed = archive(FIREHOSE.put_record_batch, STREAM, lines) | publish(EVENTS.put_events, entries)
    METRICS.add_metric("DecisionsPublished", MetricUnit.Count, len(entries))
    METRICS.add_metric("RecordsRefused", MetricUnit.Count, len(untold | unkept))
    METRICS.add_metric("RecordsFailed", MetricUnit.Count, len(failed))
    return batch_failures(records, failed)
