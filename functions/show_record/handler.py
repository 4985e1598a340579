"""GET /internal/decisions/{id}: the whole stored decision, for the lender (IAM-authorised)."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.edge import rest
from candor.edge.records import whole_record
from candor.errors import InvalidInput, StoreUnavailable
from candor.store.dynamodb import DecisionReader
from lender import DEFINITIONS

LOGGER = Logger()
METRICS = Metrics()
DECISIONS = DecisionReader(os.environ["DECISIONS_TABLE"])


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> rest.Response:
    """Return the record with its features by name; the caller is logged, the content is not."""
    request = rest.Request(event)
    METRICS.add_metric("RecordsAsked", MetricUnit.Count, 1)
    try:
        body = whole_record(request, DECISIONS, DEFINITIONS)
    except InvalidInput as error:
        LOGGER.info("refused", extra={"code": error.code, "field": error.field})
        return rest.refusal(error, request.request_id)
    except StoreUnavailable:
        LOGGER.exception("not read")
        METRICS.add_metric("RequestsFailed", MetricUnit.Count, 1)
        return rest.problem(503, "unavailable", "Ask again.", request.request_id)
    LOGGER.info("shown", extra={"by": request.caller})
    return rest.answer(200, body)
