"""Authorisation of requests: Lambda authorisers with their policy cache, and the form of IAM signatures."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.apigateway.proxy import HttpRequest
from local.apigateway.rest_api import Authorizer
from local.lambda_.sandbox import Invocation

Invoke = Callable[[str, bytes], Invocation]

_CACHE_SIZE = 10_000
_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[A-Za-z0-9]{4,128})/\d{8}/[a-z0-9-]+/execute-api/aws4_request, *"
    r"SignedHeaders=[a-z0-9;-]+, *Signature=[0-9a-f]{64}"
)


class GatewayError(Exception):
    """The request ends with the gateway response `kind`; `reason` is for the log."""

    def __init__(self, kind: str, reason: str = "") -> None:
        super().__init__(reason or kind)
        self.kind = kind


@dataclass(frozen=True)
class Grant:
    """An authoriser's result: its policy's statements, and the context passed to the function."""

    statements: tuple[Mapping[str, Any], ...]
    context: Mapping[str, str]

    def allows(self, arn: str) -> bool:
        """Whether a statement allows the method and none denies it."""
        effects = {statement.get("Effect") for statement in self.statements if _applies(statement, arn)}
        return effects == {"Allow"}


class AuthorizerCache:
    """Calls one authoriser and caches its policies by identity source. Thread-safe.

    Failures are not cached. A cached policy is evaluated for each request's method.
    """

    def __init__(
        self, authorizer: Authorizer, invoke: Invoke, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._authorizer = authorizer
        self._invoke = invoke
        self._now = now
        self._lock = threading.Lock()
        self._cached: dict[tuple[str, ...], tuple[float, Grant]] = {}
        self._sources = [_source(text) for text in authorizer.identity_sources]

    def grant(
        self, request: HttpRequest, context: Mapping[str, Any], event: Callable[[], Mapping[str, Any]]
    ) -> Grant:
        """The grant for a request. Raises GatewayError; a missing identity source is UNAUTHORIZED without a call."""
        identity = tuple(read(request, context) or "" for read in self._sources)
        if not all(identity):
            raise GatewayError("UNAUTHORIZED", "an identity source is missing")
        cached = self._recall(identity)
        if cached is not None:
            return cached
        grant = _grant(self._invoke(self._authorizer.function, json.dumps(event()).encode()))
        self._store(identity, grant)
        return grant

    def _recall(self, identity: tuple[str, ...]) -> Grant | None:
        with self._lock:
            entry = self._cached.get(identity)
            return entry[1] if entry and self._now() < entry[0] else None

    def _store(self, identity: tuple[str, ...], grant: Grant) -> None:
        if self._authorizer.ttl_s <= 0:
            return
        with self._lock:
            self._cached.pop(identity, None)
            if len(self._cached) >= _CACHE_SIZE:
                del self._cached[next(iter(self._cached))]
            self._cached[identity] = (self._now() + self._authorizer.ttl_s, grant)


def _source(text: str) -> Callable[[HttpRequest, Mapping[str, Any]], str | None]:
    """The reader of one identity source. Raises ValueError for an unknown kind."""
    kind, _, name = text.rpartition(".")
    if kind == "method.request.header":
        return lambda request, _: request.header(name)
    if kind == "method.request.querystring":
        return lambda request, _: request.parameter(name)
    if kind == "context":
        return lambda _, context: str(context.get(name) or "")
    raise ValueError(
        f"identity source {text} is not known to the local gateway; use a header, querystring or context"
    )


def _grant(result: Invocation) -> Grant:
    """Parse an authoriser's response; an exception "Unauthorized" is a 401, any other failure a 500."""
    response = _json(result.payload)
    if result.error is not None:
        if isinstance(response, dict) and response.get("errorMessage") == "Unauthorized":
            raise GatewayError("UNAUTHORIZED")
        raise GatewayError("AUTHORIZER_FAILURE", f"the authoriser failed: {result.error}")
    try:
        statements = response["policyDocument"]["Statement"]
        context = {name: _text(value) for name, value in (response.get("context") or {}).items()}
        principal = str(response["principalId"])
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise GatewayError(
            "AUTHORIZER_CONFIGURATION_ERROR", f"the authoriser's response is malformed: {error!r}"
        ) from error
    listed = statements if isinstance(statements, list) else [statements]
    if not all(isinstance(statement, dict) and "Condition" not in statement for statement in listed):
        raise GatewayError(
            "AUTHORIZER_CONFIGURATION_ERROR", "policy statements with conditions are not supported here"
        )
    return Grant(tuple(listed), {**context, "principalId": principal})


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None


def _text(value: Any) -> str:
    """A context value as text, as the function gets it. Raises TypeError for objects and lists, as API Gateway does."""
    if isinstance(value, (dict, list)):
        raise TypeError("context values must be text, numbers or booleans")
    return value if isinstance(value, str) else json.dumps(value)


def _applies(statement: Mapping[str, Any], arn: str) -> bool:
    actions, resources = _listed(statement.get("Action")), _listed(statement.get("Resource"))
    invokes = any(_like(action.lower(), "execute-api:invoke") for action in actions)
    return invokes and any(_like(resource, arn) for resource in resources)


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _like(pattern: str, text: str) -> bool:
    """Match IAM's wildcards: * for any characters, ? for one."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def signing_key(request: HttpRequest) -> str:
    """The access key id of a request signed with Signature Version 4.

    Only the form is checked: there are no accounts here with secret keys to verify the signature. Raises GatewayError.
    """
    match = _SIGNATURE.fullmatch(request.header("authorization") or "")
    if not match or not (request.header("x-amz-date") or request.header("date")):
        raise GatewayError("ACCESS_DENIED", "no Signature Version 4 authorization")
    return match["key"]
