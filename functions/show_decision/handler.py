"""GET /v1/decisions/{id}: the merchant's own decision, byte for byte as answered."""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from candor.edge import rest
from candor.edge.records import own_answer
from candor.errors import InvalidInput, StoreUnavailable
from candor.store.dynamodb import DecisionReader

LOGGER = Logger()
METRICS = Metrics()
DECISIONS = DecisionReader(os.environ["DECISIONS_TABLE"])


@METRICS.log_metrics
@LOGGER.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> rest.Response:
    """Return the stored answer; 404 for another merchant's decision."""
    request = rest.Request(event)
    METRICS.add_metric("DecisionsAsked", MetricUnit.Count, 1)
    try:
        rest.check_version(request)
        return rest.answer(200, own_answer(request, DECISIONS))
    except InvalidInput as error:
        LOGGER.info("refused", extra={"code": error.code, "field": error.field})
        return rest.refusal(error, request.request_id)
    except StoreUnavailable:
        LOGGER.exception("not read")
        METRICS.add_metric("RequestsFailed", MetricUnit.Count, 1)
        return rest.problem(503, "unavailable", "Ask again.", request.request_id)
