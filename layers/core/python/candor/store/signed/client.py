"""A small signed client for the scorer's calls: HTTP/1.1 over one kept-alive socket, a time limit for all of a call, one resend.

It exists because botocore costs more CPU per call than the whole rest of a decision and a third of a second of cold start
(ADR 0003). Everything off the two hot calls uses pynamodb and boto3. The signer follows AWS Signature Version 4 and is
tested against botocore's.
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
from candor.store.signed.connection import BrokenResponse, Connection, header

_REFUSED = (400, 403)
_CLOCK_REFUSALS = (
    b"InvalidSignatureException",
    b"RequestExpired",
    b"RequestInTheFuture",
    b"RequestTimeTooSkewed",
    b"SignatureDoesNotMatch",
)
"""What AWS answers where the clock is off; the first and the last stand for a wrong key as well, then the clock is right."""

_SKEW_S = 240
"""AWS takes what is signed up to five minutes off; less than this is no reason to sign again."""

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")


class Credentials(NamedTuple):
    """AWS credentials as Lambda gives them."""

    access_key: str
    secret_key: str
    token: str | None = None

    @classmethod
    def from_environment(cls) -> Credentials:
        """Read the standard variables; Lambda sets them for the life of a sandbox."""
        return cls(
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            os.environ.get("AWS_SESSION_TOKEN") or None,
        )


class AwsRequest(NamedTuple):
    """What is sent; `path` has no query, and nothing that would be quoted."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class CredentialScope(NamedTuple):
    """Where a signature is valid; `moment` is YYYYMMDDTHHMMSSZ."""

    moment: str
    region: str
    service: str


class AwsResponse(NamedTuple):
    """Status and body of one answer, of a refusal its Date header in lower case too."""

    status: int
    body: bytes
    date: bytes | None = None


class SignedClient:
    """One AWS service over one kept-alive connection. Not thread-safe: a sandbox serves one request at a time."""

    def __init__(self, service: str, region: str, credentials: Credentials) -> None:
        scheme, _, rest = _endpoint(service, region).partition("://")
        self._service = service
        self._region = region
        self._credentials = credentials
        self._host = rest.partition("/")[0]
        self._secure = scheme == "https"
        self._address = _address(self._host, 443 if self._secure else 80)
        self._connection: Connection | None = None
        self._ahead_s = 0
        """How far AWS's clock is ahead of ours, as far as it ever mattered."""

    def request(self, request: AwsRequest, timeout_s: float) -> AwsResponse:
        """Send and read one answer within `timeout_s`. Raises `StoreUnavailable` if there is none.

        It is sent once more, and never more often, where the other side had closed the connection while idle, or where it
        was refused because the clock is off (a sandbox may have been frozen): then signed by AWS's clock, as all that
        follows. Callers only send what is safe to send twice.
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
                self._ahead_s = (
                    before  # what the answer called the time is no better than what our clock says
                )
            else:
                self._set_clock(response)
        return response

    def _set_clock(self, refusal: AwsResponse) -> bool:
        """Whether it was refused for the time it was signed at; then AWS's time is taken from the answer."""
        moment = _header_time(refusal.date) if _doubts_clock(refusal) else None
        if moment is None or abs(moment - self._now()) < _SKEW_S:
            return False
        self._ahead_s = moment - int(time.time())
        return True

    def _now(self) -> int:
        """Seconds since the epoch, as AWS counts them."""
        return int(time.time()) + self._ahead_s

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self._service}: {type(error).__name__}")

    def _send(self, request: AwsRequest, ends: float) -> AwsResponse:
        scope = CredentialScope(_moment(self._now()), self._region, self._service)
        data = message(request, self._host, self._credentials, scope)
        if self._connection is None:
            self._connection = Connection(self._address, ends, secure=self._secure)
        self._connection.send(data, ends)
        status, head, body = self._connection.receive(ends)
        checksum = header(head, b"\r\nx-amz-crc32:")
        if checksum is not None and checksum != b"%d" % zlib.crc32(body):
            raise BrokenResponse("checksum mismatch")
        if header(head, b"\r\nconnection:") == b"close":
            self.close()
        return AwsResponse(status, body, header(head, b"\r\ndate:") if status in _REFUSED else None)

    def renew(self, credentials: Credentials) -> None:
        """Forget connection and AWS's clock, and sign with these from now on."""
        self.close()
        self._credentials = credentials
        self._ahead_s = 0

    def close(self) -> None:
        """Give the connection back; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _doubts_clock(refusal: AwsResponse) -> bool:
    return any(code in refusal.body for code in _CLOCK_REFUSALS)


def _header_time(date: bytes | None) -> int | None:
    """Seconds since the epoch of a Date header (RFC 9110, 5.6.7) in lower case; None for what is none."""
    if date is None:
        return None
    import calendar  # with strptime's tables: only who is refused pays for them

    try:
        return calendar.timegm(time.strptime(date.decode("ascii"), "%a, %d %b %Y %H:%M:%S gmt"))
    except ValueError:
        return None


def message(request: AwsRequest, host: str, credentials: Credentials, scope: CredentialScope) -> bytes:
    """The whole request, signed with AWS Signature Version 4, to be sent at once: a head alone costs a packet and a call more."""
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
    """What is the same in all requests of one kind, as templates.

    `canonical` lacks the body's digest, the moment and the digest again; `message` digest, moment, scope, signature, length
    and body. Requests of the hot path are of three kinds: what does not change is put together once.
    """

    canonical: bytes
    message: bytes


@lru_cache(maxsize=16)
def _kind(
    method: str, path: str, headers: tuple[tuple[str, str], ...], host: str, credentials: Credentials
) -> _Kind:
    if not _UNRESERVED.issuperset(path):
        raise BrokenResponse("a path that would have to be quoted")
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
    """Where the signatures of one day are valid, and what makes them."""

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
    """The second since the epoch as AWS writes it: YYYYMMDDTHHMMSSZ."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def _address(host: str, default_port: int) -> tuple[bytes, int]:
    """Name and port of `host` as an endpoint has it; as bytes, because a text would load Python's tables of IDNA."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, str(default_port)
    return name.strip("[]").encode("ascii"), int(port)


def _endpoint(service: str, region: str) -> str:
    """Where the service is: the SDKs' standard endpoint variables first, else AWS."""
    named = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")
    return named or f"https://{service}.{region}.amazonaws.com"
