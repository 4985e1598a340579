"""Signed client for the scorer's calls: HTTP/1.1 over one keep-alive connection, a deadline per call, one resend.

botocore costs more CPU per call than the rest of a decision, and a third of a second of cold start (ADR 0003); all
other calls use pynamodb and boto3. Signing follows AWS Signature Version 4 and is tested against botocore's.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from candor.errors import StoreUnavailable
from candor.hmac_key import HmacKey
from candor.store.signed.connection import BrokenResponse, HttpConnection, header

_REFUSED = (400, 403)
_CLOCK_REFUSALS = (
    b"InvalidSignatureException",
    b"RequestExpired",
    b"RequestInTheFuture",
    b"RequestTimeTooSkewed",
    b"SignatureDoesNotMatch",
)
"""AWS's errors for a wrong clock; the first and the last also stand for a wrong key, with a right clock."""

_SKEW_S = 240
"""Smallest clock skew (s) worth signing again; AWS accepts five minutes."""

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")


class Credentials(NamedTuple):
    """AWS credentials, as Lambda provides them."""

    access_key: str
    secret_key: str
    token: str | None = None

    @classmethod
    def from_environment(cls) -> Credentials:
        """Read the standard environment variables; Lambda sets them for the life of a sandbox."""
        return cls(
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            os.environ.get("AWS_SESSION_TOKEN") or None,
        )


class AwsRequest(NamedTuple):
    """An HTTP request; `path` has no query, and no character that needs quoting."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class CredentialScope(NamedTuple):
    """Credential scope of a signature; `moment` is YYYYMMDDTHHMMSSZ."""

    moment: str
    region: str
    service: str


class AwsResponse(NamedTuple):
    """Status and body; with status 400 or 403 also the Date header, in lower case."""

    status: int
    body: bytes
    date: bytes | None = None


class SignedClient:
    """Client of one AWS service over one keep-alive connection. Not thread-safe."""

    def __init__(self, service: str, region: str, credentials: Credentials) -> None:
        scheme, _, rest = _endpoint(service, region).partition("://")
        self._service = service
        self._region = region
        self._credentials = credentials
        self._host = rest.partition("/")[0]
        self._secure = scheme == "https"
        self._address = _address(self._host, 443 if self._secure else 80)
        self._connection: HttpConnection | None = None
        self._ahead_s = 0
        """Known offset (s) of AWS's clock from ours; 0 until a request fails for it."""

    def request(self, request: AwsRequest, timeout_s: float) -> AwsResponse:
        """Send a request and read its response within `timeout_s`. Raises `StoreUnavailable` if there is none.

        It is resent once if the idle connection had been closed, or if it was refused for a wrong clock (a sandbox may
        have been frozen): then, and from then on, it is signed by AWS's clock. Requests must be safe to send twice.
        """
        ends = time.monotonic() + timeout_s
        if self._connection is not None and not self._connection.is_quiet():
            self.close()
        reused = self._connection is not None
        before = self._ahead_s
        try:
            response = self._send(request, ends)
        except (OSError, BrokenResponse) as error:
            self.close()
            if not reused or isinstance(error, TimeoutError):
                raise self._unavailable(error) from error
        else:
            if response.status not in _REFUSED or not self._set_clock(response):
                return response
        return self._send_again(request, ends, before)

    def _send_again(self, request: AwsRequest, ends: float, before: int) -> AwsResponse:
        corrected = self._ahead_s != before
        try:
            response = self._send(request, ends)
        except (OSError, BrokenResponse) as error:
            self.close()
            raise self._unavailable(error) from error
        if response.status in _REFUSED and _doubts_clock(response):
            if corrected:
                self._ahead_s = before  # AWS's time did not help either
            else:
                self._set_clock(response)
        return response

    def _set_clock(self, refusal: AwsResponse) -> bool:
        """Adopt AWS's clock from a refusal; True if the skew explains it."""
        moment = _header_time(refusal.date) if _doubts_clock(refusal) else None
        if moment is None or abs(moment - self._now()) < _SKEW_S:
            return False
        self._ahead_s = moment - int(time.time())
        return True

    def _now(self) -> int:
        """Seconds since the epoch by AWS's clock."""
        return int(time.time()) + self._ahead_s

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self._service}: {type(error).__name__}")

    def _send(self, request: AwsRequest, ends: float) -> AwsResponse:
        scope = CredentialScope(_moment(self._now()), self._region, self._service)
        data = message(request, self._host, self._credentials, scope)
        if self._connection is None:
            self._connection = HttpConnection(self._address, ends, secure=self._secure)
        self._connection.send(data, ends)
        status, head, body = self._connection.receive(ends)
        checksum = header(head, b"\r\nx-amz-crc32:")
        if checksum is not None and checksum != b"%d" % zlib.crc32(body):
            raise BrokenResponse("checksum mismatch")
        if header(head, b"\r\nconnection:") == b"close":
            self.close()
        return AwsResponse(status, body, header(head, b"\r\ndate:") if status in _REFUSED else None)

    def renew(self, credentials: Credentials) -> None:
        """Sign with new credentials, over a new connection and without a clock offset."""
        self.close()
        self._credentials = credentials
        self._ahead_s = 0

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _doubts_clock(refusal: AwsResponse) -> bool:
    return any(code in refusal.body for code in _CLOCK_REFUSALS)


def _header_time(date: bytes | None) -> int | None:
    """Seconds since the epoch of a Date header (RFC 9110, 5.6.7) in lower case; None if it is invalid."""
    if date is None:
        return None
    import calendar  # with strptime's tables: needed after a refusal alone

    try:
        return calendar.timegm(time.strptime(date.decode("ascii"), "%a, %d %b %Y %H:%M:%S gmt"))
    except ValueError:
        return None


def message(request: AwsRequest, host: str, credentials: Credentials, scope: CredentialScope) -> bytes:
    """Request signed with AWS Signature Version 4, in one buffer: a separate head costs one more packet and call."""
    kind = _kind(request.method, request.path, tuple(request.headers.items()), host, credentials)
    day = _day(credentials.secret_key, scope.moment[:8], scope.region, scope.service)
    digest, moment = hashlib.sha256(request.body).hexdigest().encode(), scope.moment.encode()
    canonical = hashlib.sha256(kind.canonical % (digest, moment, digest)).hexdigest().encode()
    signature = day.key.digest(b"AWS4-HMAC-SHA256\n%b\n%b\n%b" % (moment, day.scope, canonical))
    return kind.message % (
        digest,
        moment,
        day.scope,
        signature.hex().encode(),
        len(request.body),
        request.body,
    )


class _Kind(NamedTuple):
    """Templates of the requests of one kind, built once; the scorer has three kinds.

    `canonical` takes the body's digest, the moment and the digest again; `message` digest, moment, scope, signature,
    length and body.
    """

    canonical: bytes
    message: bytes


@lru_cache(maxsize=16)
def _kind(
    method: str, path: str, headers: tuple[tuple[str, str], ...], host: str, credentials: Credentials
) -> _Kind:
    if not _UNRESERVED.issuperset(path):
        raise BrokenResponse("the path needs quoting")
    given = {name.lower(): text.strip() for name, text in headers} | {"host": host}
    if credentials.token:
        given["x-amz-security-token"] = credentials.token
    if any(broken in part for part in (method, *given, *given.values()) for broken in "\r\n"):
        raise BrokenResponse("a header holds a line break")
    fixed = {name: text.replace("%", "%%") for name, text in given.items()}
    signed = fixed | {"x-amz-content-sha256": "%b", "x-amz-date": "%b"}
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    sent = "".join(f"{name}: {text}\r\n" for name, text in fixed.items())
    access_key = credentials.access_key.replace("%", "%%")
    return _Kind(
        f"{method}\n{path}\n\n{lines}\n{names}\n%b".encode("latin-1"),
        (
            f"{method} {path} HTTP/1.1\r\n{sent}x-amz-content-sha256: %b\r\nx-amz-date: %b\r\n"
            f"authorization: AWS4-HMAC-SHA256 Credential={access_key}/%b, SignedHeaders={names}, Signature=%b\r\n"
            "content-length: %d\r\n\r\n%b"
        ).encode("latin-1"),
    )


class _Day(NamedTuple):
    """Credential scope and signing key of one day."""

    scope: bytes
    key: HmacKey


@lru_cache(maxsize=8)
def _day(secret: str, day: str, region: str, service: str) -> _Day:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return _Day(f"{day}/{region}/{service}/aws4_request".encode(), HmacKey(key))


@lru_cache(maxsize=2)
def _moment(second: int) -> str:
    """A second since the epoch in AWS's format, YYYYMMDDTHHMMSSZ."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def _address(host: str, default_port: int) -> tuple[bytes, int]:
    """Name and port of an endpoint's host; bytes, because a str would load Python's IDNA tables."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, str(default_port)
    return name.strip("[]").encode("ascii"), int(port)


def _endpoint(service: str, region: str) -> str:
    """Endpoint of a service: the SDKs' standard variables first, else AWS."""
    named = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")
    return named or f"https://{service}.{region}.amazonaws.com"
