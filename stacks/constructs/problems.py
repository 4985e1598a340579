"""API Gateway's own errors in the error format of the API, application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from aws_cdk import aws_apigateway as apigateway


class GatewayProblem(NamedTuple):
    """One response that API Gateway gives without invoking a function."""

    kind: str
    status: int
    code: str
    title: str
    detail: str


PROBLEMS = (
    GatewayProblem("BAD_REQUEST_BODY", 400, "bad_request", "Bad request", "The body cannot be read."),
    GatewayProblem(
        "BAD_REQUEST_PARAMETERS", 400, "bad_request", "Bad request", "A parameter cannot be read."
    ),
    GatewayProblem("UNAUTHORIZED", 401, "unauthorized", "Unauthorized", "Send a valid merchant key."),
    GatewayProblem("ACCESS_DENIED", 403, "forbidden", "Forbidden", "This key may not do this."),
    GatewayProblem(
        "INVALID_API_KEY", 403, "forbidden", "Forbidden", "This merchant has no place in a usage plan."
    ),
    GatewayProblem(
        "INVALID_SIGNATURE", 403, "forbidden", "Forbidden", "The request's signature is not valid."
    ),
    GatewayProblem("EXPIRED_TOKEN", 403, "forbidden", "Forbidden", "The request's credentials have expired."),
    GatewayProblem("MISSING_AUTHENTICATION_TOKEN", 404, "not_found", "Not found", "There is no such route."),
    GatewayProblem("RESOURCE_NOT_FOUND", 404, "not_found", "Not found", "There is no such route."),
    GatewayProblem("REQUEST_TOO_LARGE", 413, "too_large", "Too large", "The body is too large."),
    GatewayProblem("UNSUPPORTED_MEDIA_TYPE", 415, "unsupported_media_type", "Unsupported type", "Send JSON."),
    GatewayProblem(
        "THROTTLED", 429, "too_many_requests", "Too many requests", "Wait, then send the same key again."
    ),
    GatewayProblem(
        "QUOTA_EXCEEDED", 429, "quota_exceeded", "Quota exceeded", "The day's requests are used up."
    ),
    GatewayProblem(
        "INTEGRATION_TIMEOUT", 504, "timeout", "Timeout", "The same Idempotency-Key is safe to retry."
    ),
    GatewayProblem(
        "DEFAULT_5XX", 500, "internal", "Internal error", "The same Idempotency-Key is safe to retry."
    ),
)

PROBLEM_HEADERS = {"Content-Type": "'application/problem+json'"}
_RETRY_AFTER = {"Retry-After": "'1'"}
_HEADERS: Mapping[str, Mapping[str, str]] = {
    # Set here, it reaches the caller; API Gateway renames that of a function's answer.
    "UNAUTHORIZED": {"WWW-Authenticate": "'Bearer'"},
    "UNSUPPORTED_MEDIA_TYPE": {"Accept": "'application/json'"},
    "THROTTLED": _RETRY_AFTER,
    "INTEGRATION_TIMEOUT": _RETRY_AFTER,
    "DEFAULT_5XX": _RETRY_AFTER,
}


def add_gateway_responses(api: apigateway.RestApi) -> None:
    """Make each of the gateway's own responses a problem with its request id."""
    for problem in PROBLEMS:
        api.add_gateway_response(
            "Problem" + problem.kind.title().replace("_", ""),
            type=apigateway.ResponseType.of(problem.kind),
            status_code=str(problem.status),
            response_headers={**PROBLEM_HEADERS, **_HEADERS.get(problem.kind, {})},
            templates={"application/json": problem_template(problem)},
        )


def problem_template(problem: GatewayProblem) -> str:
    """The body; API Gateway replaces $context.requestId by the request's id."""
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "field": None,
        "request_id": "$context.requestId",
    }
    return json.dumps(body, separators=(",", ":"))
