"""Who may call: Lambda authorisers with their cache of policies, and the form of IAM signatures."""

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
    """The request is not let through; `kind` is the gateway response to give, `reason` is for the log."""

    def __init__(self, kind: str, reason: str = "") -> None:
        super().__init__(reason or kind)
        self.kind = kind


@dataclass(frozen=True)
class Grant:
    """What an authoriser returned: its policy's statements, and the context passed on to the function."""

    statements: tuple[Mapping[str, Any], ...]
    context: Mapping[str, str]

    def allows(self, arn: str) -> bool:
        """Whether a statement allows the method and none denies it."""
        effects = {statement.get("Effect") for statement in self.statements if _applies(statement, arn)}
        return effects == {"Allow"}


class AuthorizerCache:
    """Calls one authoriser and keeps its policies by identity source, as the stage's cache does. Thread-safe.

    Failures are not kept. A kept policy is evaluated for each request's own method.
    """

    def __init__(
        self, authorizer: Authorizer, invoke: Invoke, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._authorizer = authorizer
        self._invoke = invoke
        self._now = now
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, ...], tuple[float, Grant]] = {}
        self._sources = [_source(text) for text in authorizer.identity_sources]

    def grant(
        self, request: HttpRequest, context: Mapping[str, Any], event: Callable[[], Mapping[str, Any]]
    ) -> Grant:
        """The grant for a request. Raises GatewayError: UNAUTHORIZED without a call when an identity source is missing."""
        identity = tuple(read(request, context) or "" for read in self._sources)
        if not all(identity):
            raise GatewayError("UNAUTHORIZED", "an identity source is missing")
        kept = self._recall(identity)
        if kept is not None:
            return kept
        grant = _grant(self._invoke(self._authorizer.function, json.dumps(event()).encode()))
        self._keep(identity, grant)
        return grant

    def _recall(self, identity: tuple[str, ...]) -> Grant | None:
        with self._lock:
            kept = self._kept.get(identity)
            return kept[1] if kept and self._now() < kept[0] else None

    def _keep(self, identity: tuple[str, ...], grant: Grant) -> None:
        if self._authorizer.ttl_s <= 0:
            return
        with self._lock:
            self._kept.pop(identity, None)
            if len(self._kept) >= _CACHE_SIZE:
                del self._kept[next(iter(self._kept))]
            self._kept[identity] = (self._now() + self._authorizer.ttl_s, grant)


def _source(text: str) -> Callable[[HttpRequest, Mapping[str, Any]], str | None]:
    """How to read one identity source; raises ValueError for a kind that this gateway does not know."""
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
    """Read an authoriser's answer; an exception with the message "Unauthorized" is a 401, any other failure a 500."""
    answer = _json(result.payload)
    if result.error is not None:
        if isinstance(answer, dict) and answer.get("errorMessage") == "Unauthorized":
            raise GatewayError("UNAUTHORIZED")
        raise GatewayError("AUTHORIZER_FAILURE", f"the authoriser failed: {result.error}")
    try:
        statements = answer["policyDocument"]["Statement"]
        context = {name: _text(value) for name, value in (answer.get("context") or {}).items()}
        principal = str(answer["principalId"])
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise GatewayError(
            "AUTHORIZER_CONFIGURATION_ERROR", f"the authoriser's answer is malformed: {error!r}"
        ) from error
    listed = statements if isinstance(statements, list) else [statements]
    if not all(isinstance(statement, dict) and "Condition" not in statement for statement in listed):
        raise GatewayError("AUTHORIZER_CONFIGURATION_ERROR", "only plain policy statements are known here")
    return Grant(tuple(listed), {**context, "principalId": principal})


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None


def _text(value: Any) -> str:
    """Context values reach the function as text; API Gateway refuses objects and lists."""
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
    """IAM's wildcards: * any characters, ? one."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def signing_key(request: HttpRequest) -> str:
    """The access key id of a request signed with Signature Version 4.

    Only the form is checked, not the signature: there are no accounts here whose secret keys it could be checked
    against. Raises GatewayError.
    """
    match = _SIGNATURE.fullmatch(request.header("authorization") or "")
    if not match or not (request.header("x-amz-date") or request.header("date")):
        raise GatewayError("ACCESS_DENIED", "no Signature Version 4 authorization")
    return match["key"]
