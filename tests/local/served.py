"""A gateway served over real HTTP, in front of functions that are plain Python."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from local.apigateway.gateway import Authorizer, Gateway, GatewayResponse, RestApi, Route
from local.apigateway.gateway import serving as gateway_serving
from local.lambda_.service import Invocation

PROBLEM = '{"status":%d,"code":"%s","detail":$context.error.messageString,"request_id":"$context.requestId"}'


def declared(status: int, code: str) -> GatewayResponse:
    return GatewayResponse.of_template(
        {
            "StatusCode": str(status),
            "ResponseParameters": {"gatewayresponse.header.Content-Type": "'application/problem+json'"},
            "ResponseTemplates": {"application/json": PROBLEM % (status, code)},
        }
    )


RESPONSES = {
    "UNAUTHORIZED": declared(401, "unauthorized"),
    "ACCESS_DENIED": declared(403, "forbidden"),
    "MISSING_AUTHENTICATION_TOKEN": declared(404, "no_such_route"),
    "DEFAULT_5XX": GatewayResponse(
        headers={"Content-Type": "'application/problem+json'"},
        templates={"application/json": '{"code":"internal","request_id":"$context.requestId"}'},
    ),
}
ROUTES = [
    Route("POST", "/v1/decisions", "score", authorizer="keys", auth="CUSTOM"),
    Route("GET", "/v1/decisions/{id}", "score", authorizer="keys", auth="CUSTOM"),
    Route("POST", "/v1/events", "publish", auth="AWS_IAM"),
    Route("ANY", "/open/{proxy+}", "open"),
]


def api(**settings: Any) -> RestApi:
    return RestApi(ROUTES, {"keys": Authorizer("authorize", ttl_s=300)}, RESPONSES, **settings)


def policy(effect: str = "Allow", resource: str = "*", **context: Any) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": resource}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return {"principalId": "mer_1", "policyDocument": document, "context": context}


class Functions:
    """A fake Lambda service: the result of each function, and the events that it received."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "authorize": lambda event: policy(merchant_id="mer_1", livemode=False, limit=3),
            "score": lambda event: {"statusCode": 200, "body": "{}"},
            "publish": lambda event: {"statusCode": 202, "body": "{}"},
            "open": lambda event: {"statusCode": 200, "body": json.dumps(event)},
        }
        self.events: dict[str, list[dict[str, Any]]] = {name: [] for name in self.answers}

    def __call__(self, name: str, payload: bytes) -> Invocation:
        event = json.loads(payload)
        self.events[name].append(event)
        try:
            answer = self.answers[name](event)
        except RuntimeError as error:
            text = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
            return Invocation(text.encode(), type(error).__name__, "r")
        return Invocation(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), None, "r")


@contextmanager
def serving(gateway: Gateway) -> Iterator[httpx.Client]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        limits = httpx.Limits(max_connections=200)
        with (
            gateway_serving(gateway, listener),
            httpx.Client(base_url=address, timeout=120, limits=limits, trust_env=False) as client,
        ):
            yield client


def key() -> dict[str, str]:
    """A merchant key that no other test has used, so that no policy is cached for it."""
    return {"Authorization": f"Bearer mk_{time.monotonic_ns()}"}


def refuse(message: str) -> Callable[[dict[str, Any]], Any]:
    def handler(event: dict[str, Any]) -> Any:
        raise RuntimeError(message)

    return handler
