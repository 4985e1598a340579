"""Answers that API Gateway gives by itself, by mock integrations: the health check, and 405 for undeclared methods."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from aws_cdk import aws_apigateway as apigateway

from stacks.constructs.problems import PROBLEM_HEADERS, GatewayProblem, problem_template

_BODIES = (
    "application/json",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "application/xml",
    "multipart/form-data",
    "text/plain",
)
"""Content types of requests that get the answer; a mock integration refuses a body of any other with 415."""


def add_health(root: apigateway.IResource) -> apigateway.Resource:
    """`GET /health`: 200 from the gateway itself, without a key, a function or a read."""
    health = root.add_resource("health")
    _add_fixed_answer(health, "GET", 200, json.dumps({"status": "ok"}), {})
    return health


def refuse_other_methods(resource: apigateway.IResource, allowed: Sequence[str]) -> None:
    """Answer every method that the resource does not declare with 405 and the declared ones in Allow."""
    listed = ", ".join(allowed)
    problem = GatewayProblem(
        "", 405, "method_not_allowed", "Method not allowed", f"This path takes {listed} alone."
    )
    headers = {**PROBLEM_HEADERS, "Allow": f"'{listed}'"}
    _add_fixed_answer(resource, "ANY", 405, problem_template(problem), headers)


def _add_fixed_answer(
    resource: apigateway.IResource, method: str, status: int, template: str, headers: Mapping[str, str]
) -> None:
    names = {name: f"method.response.header.{name}" for name in headers}
    resource.add_method(
        method,
        apigateway.MockIntegration(
            passthrough_behavior=apigateway.PassthroughBehavior.NEVER,
            request_templates={kind: json.dumps({"statusCode": status}) for kind in _BODIES},
            integration_responses=[
                apigateway.IntegrationResponse(
                    status_code=str(status),
                    response_parameters={names[name]: value for name, value in headers.items()},
                    response_templates={"application/json": template},
                )
            ],
        ),
        authorization_type=apigateway.AuthorizationType.NONE,
        method_responses=[
            apigateway.MethodResponse(
                status_code=str(status),
                response_parameters=dict.fromkeys(names.values(), True),
            )
        ],
    )
