"""API Gateway's REST proxy events: requests, and responses as JSON or RFC 9457 problems."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from candor.contracts import MAX_BODY_BYTES, Fault, Problem
from candor.errors import InvalidInput

PROBLEM_TYPE = "https://candor.example/problems/"
API_VERSION = "2026-11-01"
"""The only supported version, and the default without the header."""

VERSION_HEADER = "Api-Version"
STATUS_OF = {
    "malformed_json": 400,
    "missing_idempotency_key": 400,
    "invalid_idempotency_key": 400,
    "replay_clock_refused": 400,
    "invalid_replay_moment": 400,
    "unknown_api_version": 400,
    "unauthorized": 401,
    "decision_not_found": 404,
    "body_too_large": 413,
    "unsupported_media_type": 415,
}
"""HTTP status by problem code; other input errors are 422."""

MEDIA_TYPE = "application/json"
_HEADERS_OF = {
    401: {"WWW-Authenticate": "Bearer"},
    415: {"Accept": MEDIA_TYPE},
    503: {"Retry-After": "1"},
}
"""Headers of a problem by its status."""

Response = dict[str, Any]


class Request:
    """A proxy event."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        self._event = event
        self._headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        self.request_id: str = event["requestContext"]["requestId"]
        self.authorizer: Mapping[str, str] = event["requestContext"].get("authorizer") or {}

    def header(self, name: str) -> str | None:
        """Value of a header, by its name in any case; None if absent."""
        return self._headers.get(name.lower())

    @property
    def caller(self) -> str:
        """ARN of the IAM identity that signed the request; empty for merchant keys."""
        identity = self._event["requestContext"].get("identity") or {}
        return identity.get("userArn") or ""

    def parameter(self, name: str) -> str:
        """Path parameter by its name in the route; empty if absent."""
        return (self._event.get("pathParameters") or {}).get(name) or ""

    def body(self) -> bytes:
        """The body's bytes. Raises `InvalidInput` above 64 KB."""
        text: str = self._event.get("body") or ""
        body = a2b_base64(text) if self._event.get("isBase64Encoded") else text.encode()
        if len(body) > MAX_BODY_BYTES:
            raise InvalidInput("body_too_large", "The body is larger than 64 KB.")
        return body


def check_version(request: Request) -> None:
    """Raise `InvalidInput` for an unsupported API version."""
    if request.header(VERSION_HEADER) not in (None, API_VERSION):
        raise InvalidInput(
            "unknown_api_version", f"Leave Api-Version out, or send {API_VERSION}.", VERSION_HEADER
        )


def check_media_type(request: Request) -> None:
    """Raise `InvalidInput` for a body of another type than JSON; without a Content-Type it is read as JSON.

    Parameters are ignored: JSON is UTF-8, and RFC 8259 defines no charset.
    """
    sent = request.header("Content-Type")
    if sent in (None, MEDIA_TYPE):
        return
    if sent.partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise InvalidInput("unsupported_media_type", f"Send JSON, as {MEDIA_TYPE}.", "Content-Type")


def answer(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response with the API version header."""
    return {
        "statusCode": status,
        "headers": {"Content-Type": MEDIA_TYPE, VERSION_HEADER: API_VERSION, **(headers or {})},
        "body": body.decode(),
    }


def refusal(error: InvalidInput, request_id: str) -> Response:
    """The problem response of an input error; for a body, with all its faults."""
    status = STATUS_OF.get(error.code, 422)
    of_the_body = status == 422 and (error.faults or error.field)
    faults = (error.faults or (error,)) if of_the_body else ()
    return problem(status, error.code, error.detail, request_id, error.field, faults)


def problem(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    field: str | None = None,
    faults: Sequence[InvalidInput] = (),
) -> Response:
    """RFC 9457 problem details as a response, with the headers of its status."""
    from http import HTTPStatus  # imported for problems alone, off the cold start

    title = HTTPStatus(status).phrase
    errors = [Fault(fault.code, fault.field, fault.detail) for fault in faults] or msgspec.UNSET
    body = Problem(PROBLEM_TYPE + code, title, status, detail, code, field, request_id, errors)
    headers = {"Content-Type": "application/problem+json", **_HEADERS_OF.get(status, {})}
    return answer(status, msgspec.json.encode(body), headers)
