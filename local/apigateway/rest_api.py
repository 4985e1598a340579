"""A REST API as its template declares it: routes, authorisers and the gateway's own responses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from local.assembly.template import ACCOUNT, REGION

# Status and message of each response type (API Gateway developer guide, "Gateway response types").
DEFAULTS: Mapping[str, tuple[int, str]] = {
    "ACCESS_DENIED": (403, "User is not authorized to access this resource"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, "Internal server error"),
    "AUTHORIZER_FAILURE": (500, "Internal server error"),
    "DEFAULT_4XX": (400, "Bad request"),
    "DEFAULT_5XX": (500, "Internal server error"),
    "INTEGRATION_TIMEOUT": (504, "Endpoint request timed out"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token"),
    "REQUEST_TOO_LARGE": (413, "Request Too Long"),
    "UNAUTHORIZED": (401, "Unauthorized"),
    "UNSUPPORTED_MEDIA_TYPE": (415, "Unsupported Media Type"),
}
_VARIABLE = re.compile(r"\$context\.([A-Za-z]+(?:\.[A-Za-z]+)*)")
_PARAMETER = re.compile(r"\{([A-Za-z0-9._-]+)(\+?)\}")


@dataclass(frozen=True)
class MockIntegration:
    """A constant answer: for requests of the `accepted` content types; `headers` are literals by name."""

    status: int
    accepted: frozenset[str]
    headers: Mapping[str, str]
    template: str

    @classmethod
    def of_template(cls, properties: Mapping[str, Any]) -> MockIntegration:
        """From the properties of an AWS::ApiGateway::Method. Raises ValueError for what is not a constant answer."""
        integration = properties["Integration"]
        if integration.get("PassthroughBehavior") not in ("NEVER", "WHEN_NO_TEMPLATES"):
            raise ValueError("a mock integration must not pass bodies through")
        requests = integration.get("RequestTemplates") or {}
        statuses = {_constant_status(template) for template in requests.values()}
        responses = integration.get("IntegrationResponses") or []
        if len(statuses) != 1 or [int(each["StatusCode"]) for each in responses] != [*statuses]:
            raise ValueError("a mock integration must have one status, in its templates and its response")
        (status,), (response,) = statuses, responses
        return cls(status, frozenset(requests), _literals(properties, response), _json_template(response))


def _constant_status(template: str) -> int:
    try:
        return int(json.loads(template)["statusCode"])
    except (ValueError, KeyError, TypeError):
        raise ValueError("a mock integration's request template must be a constant statusCode") from None


def _json_template(response: Mapping[str, Any]) -> str:
    templates = response.get("ResponseTemplates") or {}
    if list(templates) != ["application/json"]:
        raise ValueError("a mock integration must answer with one template, for application/json")
    return str(templates["application/json"])


def _literals(properties: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, str]:
    """Headers of the integration's response; each must be declared by the method's response, as on AWS."""
    declared = {
        name
        for method in properties.get("MethodResponses") or []
        if str(method["StatusCode"]) == str(response["StatusCode"])
        for name in method.get("ResponseParameters") or {}
    }
    headers = {}
    for name, value in (response.get("ResponseParameters") or {}).items():
        if name not in declared or not (value.startswith("'") and value.endswith("'")):
            raise ValueError(f"{name} must be a literal that the method's response declares")
        headers[name.removeprefix("method.response.header.")] = value[1:-1]
    return headers


@dataclass(frozen=True)
class Route:
    """A method of a resource: `path` as "/v1/decisions/{id}" or "/{proxy+}", `method` may be "ANY".

    `function` answers it, or the gateway by itself with `mock`.
    """

    method: str
    path: str
    function: str
    authorizer: str | None = None
    auth: Literal["CUSTOM", "AWS_IAM", "NONE"] = "NONE"
    mock: MockIntegration | None = None


@dataclass(frozen=True)
class Authorizer:
    """A Lambda authoriser of type REQUEST.

    `identity_sources` are spelled as in the template ("method.request.header.Authorization"); their values are the
    key under which a policy is cached for `ttl_s` seconds (0: not cached).
    """

    function: str
    identity_sources: Sequence[str] = ("method.request.header.Authorization",)
    ttl_s: int = 300


@dataclass(frozen=True)
class GatewayResponse:
    """A response of the gateway itself: `headers` by bare name; their values and the `templates` as declared."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_template(cls, properties: Mapping[str, Any]) -> GatewayResponse:
        """From the properties of an AWS::ApiGateway::GatewayResponse."""
        prefix = "gatewayresponse.header."
        status = properties.get("StatusCode")
        parameters = properties.get("ResponseParameters", {})
        return cls(
            status=int(status) if status else None,
            headers={name.removeprefix(prefix): str(value) for name, value in parameters.items()},
            templates=dict(properties.get("ResponseTemplates", {})),
        )


@dataclass(frozen=True)
class RestApi:
    """A deployed stage of a REST API. `responses` are keyed by response type, `authorizers` by their name."""

    routes: Sequence[Route]
    authorizers: Mapping[str, Authorizer] = field(default_factory=dict)
    responses: Mapping[str, GatewayResponse] = field(default_factory=dict)
    stage: str = "dev"
    api_id: str = "local"
    region: str = REGION
    account: str = ACCOUNT
    timeout_s: float = 29.0

    def __post_init__(self) -> None:
        for route in self.routes:
            known = route.authorizer in self.authorizers
            if (route.auth == "CUSTOM") != known:
                raise ValueError(
                    f"{route.method} {route.path}: CUSTOM authorisation needs a declared authoriser"
                )


class RouteTable:
    """Finds the route of a request; literal segments take precedence over parameters, a method over ANY."""

    def __init__(self, routes: Sequence[Route]) -> None:
        ordered = sorted(routes, key=lambda route: (route.path.count("{"), route.method == "ANY"))
        self._routes = [(_pattern(route.path), route) for route in ordered]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route and its path parameters."""
        for pattern, route in self._routes:
            match = pattern.fullmatch(path) if route.method in (method, "ANY") else None
            if match:
                names = [name for name, _ in _PARAMETER.findall(route.path)]
                return route, dict(zip(names, match.groups(), strict=True))
        return None


def _pattern(path: str) -> re.Pattern[str]:
    literal, parts = 0, []
    for parameter in _PARAMETER.finditer(path):
        parts.append(re.escape(path[literal : parameter.start()]))
        parts.append("(.+)" if parameter.group(2) else "([^/]+)")
        literal = parameter.end()
    return re.compile("".join(parts) + re.escape(path[literal:]) + "/?", re.DOTALL)


@dataclass(frozen=True)
class HttpResponse:
    """The response to the client."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def gateway_response(
    api: RestApi, kind: str, context: Mapping[str, Any], status: int | None = None
) -> HttpResponse:
    """The response of type `kind`: as declared, else the declared DEFAULT_4XX/5XX, else API Gateway's own.

    `status` is used where the declaration has none.
    """
    usual, message = DEFAULTS[kind]
    status = status or usual
    family = "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
    declared = api.responses.get(kind) or api.responses.get(family) or GatewayResponse()
    error = {"message": message, "messageString": json.dumps(message), "responseType": kind}
    variables = {**context, "error": error}
    templates = declared.templates or {"application/json": '{"message":$context.error.messageString}'}
    content_type = "application/json" if "application/json" in templates else next(iter(templates))
    headers = {"content-type": content_type}
    for name, value in declared.headers.items():
        headers[name.lower()] = _header_value(value, variables)
    body = _VARIABLE.sub(lambda match: _escaped(match.group(1), variables), templates[content_type])
    return HttpResponse(declared.status or status, list(headers.items()), body.encode())


def mock_response(
    mock: MockIntegration, content_type: str | None, context: Mapping[str, Any]
) -> HttpResponse | None:
    """The constant answer; None for a content type that the integration does not accept."""
    kind = (content_type or "application/json").partition(";")[0].strip().lower()
    if kind not in mock.accepted:
        return None
    headers = {"content-type": "application/json"} | {
        name.lower(): value for name, value in mock.headers.items()
    }
    body = _VARIABLE.sub(lambda match: _escaped(match.group(1), context), mock.template)
    return HttpResponse(mock.status, list(headers.items()), body.encode())


def _header_value(expression: str, variables: Mapping[str, Any]) -> str:
    """The value of a header expression: '…' is literal, context.… a variable."""
    if expression.startswith("'") and expression.endswith("'"):
        return expression[1:-1]
    return _variable(expression.removeprefix("context."), variables)


def _escaped(path: str, variables: Mapping[str, Any]) -> str:
    """A variable escaped for a JSON string; messageString has its own quotes."""
    value = _variable(path, variables)
    return value if path == "error.messageString" else json.dumps(value)[1:-1]


def _variable(path: str, variables: Mapping[str, Any]) -> str:
    """The variable's text, empty when it does not exist."""
    value: Any = variables
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return "" if value is None or isinstance(value, Mapping) else str(value)
