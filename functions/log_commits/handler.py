"""The feature tables' streams → the archive: one line of the commit log per commit."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from candor.edge.streams import archive, batch_failures, commit_line, dead_letter, parse_records

LOGGER = Logger()
METRICS = Metrics()
STREAM = os.environ["COMMITS_STREAM"]
DLQ_URL = os.environ["STREAMS_DLQ_URL"]
CONFIG = Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 3})
FIREHOSE = boto3.client("firehose", config=CONFIG)
SQS = boto3.client("sqs", config=CONFIG)


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Log commits; unreadable records go to the DLQ, and delivery resumes from the first failed record."""
    records = event["Records"]
    METRICS.add_metric("RecordsReceived", MetricUnit.Count, len(records))
    lines, refused = parse_records(records, commit_line)
    for place, reason in refused.items():
        LOGGER.error("refused", extra={"code": reason.code, "field": reason.field})
        SQS.send_message(QueueUrl=DLQ_URL, **dead_letter(records[place], reason))
    failed = archive(FIREHOSE.put_record_batch, STREAM, lines)
    METRICS.add_metric("CommitsLogged", MetricUnit.Count, len(lines))
    METRICS.add_metric("RecordsRefused", MetricUnit.Count, len(refused))
    METRICS.add_metric("RecordsFailed", MetricUnit.Count, len(failed))
    return batch_failures(records, failed)
