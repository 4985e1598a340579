"""POST /v1/events: the lender's services publish events to the bus (IAM-authorised)."""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from candor.clock import SystemClock
from candor.edge import rest
from candor.edge.bus import entries_of, put
from candor.errors import InvalidInput, StoreUnavailable
from lender import DEFINITIONS

LOGGER = Logger()
METRICS = Metrics()
BUS = os.environ["EVENT_BUS_NAME"]
EVENTS = boto3.client(
    "events", config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 3})
)


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> rest.Response:
    """Accept all events of the request or none; sending them again is safe."""
    request = rest.Request(event)
    try:
        rest.check_version(request)
        rest.check_media_type(request)
        entries = entries_of(request.body(), DEFINITIONS, SystemClock(), BUS)
        put(EVENTS.put_events, entries)
    except InvalidInput as error:
        LOGGER.info("refused", extra={"code": error.code, "field": error.field})
        METRICS.add_metric("RequestsRefused", MetricUnit.Count, 1)
        return rest.refusal(error, request.request_id)
    except (BotoCoreError, ClientError, StoreUnavailable) as error:
        LOGGER.exception("not published", extra={"cause": type(error).__name__})
        METRICS.add_metric("RequestsFailed", MetricUnit.Count, 1)
        return rest.problem(503, "unavailable", "Send the same events again.", request.request_id)
    METRICS.add_metric("EventsAccepted", MetricUnit.Count, len(entries))
    return rest.answer(202, b'{"accepted":%d}' % len(entries))
