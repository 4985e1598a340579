"""API Gateway's REST proxy events: what a request says, and answers as JSON or RFC 9457 problems."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any

import msgspec

from candor.contracts import MAX_BODY_BYTES, Problem
from candor.errors import InvalidInput

PROBLEM_TYPE = "https://candor.example/problems/"
API_VERSION = "2026-11-01"
"""The one dated version that is spoken; without the header a caller is answered in it."""

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
}
"""HTTP status by problem code; everything else about the input is 422."""

Response = dict[str, Any]


class Request:
    """One proxy event, read once."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        self._event = event
        self._headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        self.request_id: str = event["requestContext"]["requestId"]
        self.authorizer: Mapping[str, str] = event["requestContext"].get("authorizer") or {}

    def header(self, name: str) -> str | None:
        """The header's value, whatever its case; None if it is not there."""
        return self._headers.get(name.lower())

    @property
    def caller(self) -> str:
        """ARN of who signed the request; empty where a merchant's key did."""
        identity = self._event["requestContext"].get("identity") or {}
        return identity.get("userArn") or ""

    def parameter(self, name: str) -> str:
        """A part of the path by its name in the route; empty if the route has none of that name."""
        return (self._event.get("pathParameters") or {}).get(name) or ""

    def body(self) -> bytes:
        """The body's bytes. Raises `InvalidInput` above 64 KB."""
        text: str = self._event.get("body") or ""
        body = a2b_base64(text) if self._event.get("isBase64Encoded") else text.encode()
        if len(body) > MAX_BODY_BYTES:
            raise InvalidInput("body_too_large", "The body is larger than 64 KB.")
        return body


def check_version(request: Request) -> None:
    """Refuse a version of the API that is not spoken. Raises `InvalidInput`."""
    if request.header(VERSION_HEADER) not in (None, API_VERSION):
        raise InvalidInput(
            "unknown_api_version", f"Leave Api-Version out, or send {API_VERSION}.", VERSION_HEADER
        )


def answer(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer, in the version of the API that is spoken."""
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json", VERSION_HEADER: API_VERSION, **(headers or {})},
        "body": body.decode(),
    }


def refusal(error: InvalidInput, request_id: str) -> Response:
    """The problem that tells a caller what to mend."""
    return problem(STATUS_OF.get(error.code, 422), error.code, error.detail, request_id, error.field)


def problem(status: int, code: str, detail: str, request_id: str, field: str | None = None) -> Response:
    """RFC 9457 problem details as an answer; 503 tells when to come back."""
    from http import HTTPStatus  # only who was refused pays for it

    body = Problem(PROBLEM_TYPE + code, HTTPStatus(status).phrase, status, detail, code, field, request_id)
    headers = {"Content-Type": "application/problem+json"} | ({"Retry-After": "1"} if status == 503 else {})
    return answer(status, msgspec.json.encode(body), headers)
