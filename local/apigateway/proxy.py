"""Lambda proxy integration, payload version 1.0: the event of an HTTP request, the HTTP response of a result."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from local.apigateway.rest_api import HttpResponse, RestApi, Route

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OF_THE_SERVER = {"content-length", "transfer-encoding", "connection", "date"}
_WITHOUT_BODY = (204, 304)
_RENAMED = {"www-authenticate": "x-amzn-Remapped-WWW-Authenticate"}
"""Headers of a function's answer that API Gateway renames (developer guide, "Important notes")."""

# Fields of requestContext.identity that only IAM, Cognito or API keys fill.
_NO_IDENTITY = (
    "accessKey accountId apiKey apiKeyId caller cognitoAuthenticationProvider cognitoAuthenticationType "
    "cognitoIdentityId cognitoIdentityPoolId principalOrgId user userArn"
).split()


class MalformedResponse(Exception):
    """The function's result is not a proxy response; the message says why."""


@dataclass(frozen=True)
class HttpRequest:
    """A request as received: header names in lower case, `query` undecoded."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    port: int

    def header(self, name: str) -> str | None:
        """The last value of a header, whatever its case; None when it is missing."""
        wanted = name.lower()
        return next((value for key, value in reversed(self.headers) if key == wanted), None)

    def parameter(self, name: str) -> str | None:
        """The last value of a query parameter; None when it is missing."""
        return dict(parse_qsl(self.query, keep_blank_values=True)).get(name)


def request_context(api: RestApi, request: HttpRequest, route: Route | None) -> dict[str, Any]:
    """The event's requestContext, which is also $context in gateway responses."""
    now = time.time()
    identity: dict[str, Any] = dict.fromkeys(_NO_IDENTITY)
    identity |= {"sourceIp": request.source_ip, "userAgent": request.header("user-agent")}
    host = request.header("host") or "localhost"
    return {
        "accountId": api.account,
        "apiId": api.api_id,
        "domainName": host,
        "domainPrefix": host.split(".")[0],
        "extendedRequestId": base64.urlsafe_b64encode(secrets.token_bytes(11)).decode(),
        "httpMethod": request.method,
        "identity": identity,
        "path": f"/{api.stage}{request.path}",
        "protocol": "HTTP/1.1",
        "requestId": str(uuid.uuid4()),
        "requestTime": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "requestTimeEpoch": int(now * 1000),
        "resourceId": "local",
        "resourcePath": route.path if route else request.path,
        "stage": api.stage,
    }


def proxy_event(
    request: HttpRequest, route: Route, parameters: Mapping[str, str], context: Mapping[str, Any]
) -> dict[str, Any]:
    """The event of a proxy integration (API Gateway developer guide, "Input format of a Lambda function")."""
    text, encoded = _body(request.body)
    return {
        "resource": route.path,
        "path": request.path,
        "httpMethod": request.method,
        **_fields(request),
        "pathParameters": dict(parameters) or None,
        "stageVariables": None,
        "requestContext": context,
        "body": text,
        "isBase64Encoded": encoded,
    }


def authorizer_event(
    request: HttpRequest, route: Route, parameters: Mapping[str, str], context: Mapping[str, Any], arn: str
) -> dict[str, Any]:
    """The event of a REQUEST authoriser: the same request without its body."""
    event = proxy_event(request, route, parameters, context)
    del event["body"], event["isBase64Encoded"]
    return {"type": "REQUEST", "methodArn": arn, **event}


def _fields(request: HttpRequest) -> dict[str, Any]:
    headers = [*request.headers, *_added(request)]
    query = parse_qsl(request.query, keep_blank_values=True)
    return {
        "headers": dict(headers),
        "multiValueHeaders": _grouped(headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _grouped(query) or None,
    }


def _added(request: HttpRequest) -> list[tuple[str, str]]:
    """The headers that API Gateway adds."""
    forwarded = request.header("x-forwarded-for")
    trace = f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    return [
        ("X-Amzn-Trace-Id", trace),
        ("X-Forwarded-For", f"{forwarded}, {request.source_ip}" if forwarded else request.source_ip),
        ("X-Forwarded-Port", str(request.port)),
        ("X-Forwarded-Proto", "http"),
    ]


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped


def _body(body: bytes) -> tuple[str | None, bool]:
    """The body as text, or base64 (True) when it is not UTF-8; None when it is empty."""
    if not body:
        return None, False
    try:
        return body.decode("utf-8"), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), True


def proxy_response(payload: bytes) -> HttpResponse:
    """The HTTP response of a function's result. Raises MalformedResponse."""
    try:
        result = json.loads(payload)
    except ValueError as error:
        raise MalformedResponse("the result is not JSON") from error
    if not isinstance(result, dict):
        raise MalformedResponse("the result is not an object")
    status = _status(result.get("statusCode"))
    headers = _headers(result)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    body = _payload(result.get("body"), encoded=result.get("isBase64Encoded") is True)
    return HttpResponse(status, headers, b"" if status in _WITHOUT_BODY else body)


def _status(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 599:
        raise MalformedResponse("statusCode is not an HTTP status")
    return value


def _headers(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Both header maps merged; multiValueHeaders win. Names keep the function's spelling, as on AWS."""
    single, multiple = result.get("headers") or {}, result.get("multiValueHeaders") or {}
    if not isinstance(single, dict) or not isinstance(multiple, dict):
        raise MalformedResponse("headers are not an object")
    merged = {name.lower(): (name, [value]) for name, value in single.items()}
    for name, values in multiple.items():
        if not isinstance(values, list):
            raise MalformedResponse(f"multiValueHeaders.{name} is not a list")
        merged[name.lower()] = (name, values)
    for name in _OF_THE_SERVER:
        merged.pop(name, None)
    for name, renamed in _RENAMED.items():
        if name in merged:
            merged[name] = (renamed, merged[name][1])
    return [(name, _header_text(name, value)) for name, values in merged.values() for value in values]


def _header_text(name: str, value: Any) -> str:
    if isinstance(value, (dict, list)) or value is None:
        raise MalformedResponse(f"header {name} is not a text")
    text = value if isinstance(value, str) else json.dumps(value)
    if not _TOKEN.fullmatch(name) or not text.isprintable() or not all(ord(char) < 256 for char in text):
        raise MalformedResponse(f"header {name!r} cannot be sent")
    return text


def _payload(body: Any, *, encoded: bool) -> bytes:
    if body is None:
        return b""
    if not isinstance(body, str):
        raise MalformedResponse("body is not a text")
    if not encoded:
        return body.encode("utf-8", "replace")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise MalformedResponse("body is not base64") from error
