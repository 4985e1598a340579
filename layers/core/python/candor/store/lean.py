"""A small signed client for the scorer's calls: HTTP/1.1 over one kept-alive socket, a time limit for all of a call, one resend.

It exists because botocore costs more CPU per call than the whole rest of a decision and a third of a second of cold start
(ADR 0003). Everything off the two hot calls uses pynamodb and boto3. The signer follows AWS Signature Version 4 and is
tested against botocore's.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import select
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from candor.errors import StoreUnavailable

CONNECT_TIMEOUT_S = 1.0
_BLOCK = 64 * 1024
_HEAD_BYTES = 64 * 1024
_BODY_BYTES = 256 * 1024 * 1024
"""No answer is larger: a length beyond it is damage, and nothing is kept free for it."""

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


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


class Request(NamedTuple):
    """What is sent; `path` has no query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class Scope(NamedTuple):
    """Where a signature is valid; `moment` is YYYYMMDDTHHMMSSZ."""

    moment: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.moment[:8]}/{self.region}/{self.service}/aws4_request"


class Response(NamedTuple):
    """Status and body of one answer."""

    status: int
    body: bytes


class SignedClient:
    """One AWS service over one kept-alive connection. Not thread-safe: a sandbox serves one request at a time."""

    def __init__(self, service: str, region: str, credentials: Credentials) -> None:
        endpoint = _endpoint(service, region)
        parts = urlsplit(endpoint)
        self._service = service
        self._region = region
        self._credentials = credentials
        self._host = parts.netloc
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname or "", parts.port or (443 if self._secure else 80))
        self._connection: socket.socket | None = None

    def request(self, request: Request, timeout_s: float) -> Response:
        """Send and read one answer within `timeout_s`. Raises `StoreUnavailable` if there is none.

        A connection that the other side closed while idle is opened again and the request sent once more; callers only
        send what is safe to send twice.
        """
        ends = time.monotonic() + timeout_s
        if self._connection is not None and _has_spoken(self._connection):
            self.close()
        reused = self._connection is not None
        try:
            return self._send(request, ends)
        except (OSError, BrokenAnswer) as error:
            self.close()
            if not reused or isinstance(error, TimeoutError):
                raise self._unavailable(error) from error
        try:
            return self._send(request, ends)
        except (OSError, BrokenAnswer) as error:
            self.close()
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self._service}: {type(error).__name__}")

    def _send(self, request: Request, ends: float) -> Response:
        connection = self._connected(ends)
        scope = Scope(time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), self._region, self._service)
        headers = sign(request, self._host, self._credentials, scope)
        message = _message(request, headers)
        connection.settimeout(_left(ends))
        connection.sendall(message)
        status, told, found = _answer(connection, ends)
        if told.get(b"x-amz-crc32", b"%d" % zlib.crc32(found)) != b"%d" % zlib.crc32(found):
            raise BrokenAnswer("checksum mismatch")
        if told.get(b"connection", b"").lower() == b"close":
            self.close()
        return Response(status, found)

    def _connected(self, ends: float) -> socket.socket:
        if self._connection is None:
            opened = socket.create_connection(self._address, min(_left(ends), CONNECT_TIMEOUT_S))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._secure:
                opened = _tls().wrap_socket(opened, server_hostname=self._address[0])
            self._connection = opened
        return self._connection

    def close(self) -> None:
        """Give the connection back; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class BrokenAnswer(Exception):
    """What came is not one whole answer of HTTP/1.1, or what is to be sent is no request of it."""


def _has_spoken(sock: socket.socket) -> bool:
    """Whether the other side hung up or spoke unasked while idle: what it said may not pass for the next answer."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _left(ends: float) -> float:
    """Seconds until the moment `ends`. Raises `TimeoutError` where none is left."""
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _message(request: Request, headers: Mapping[str, str]) -> bytes:
    """The request's bytes, to be sent at once: a head that is sent alone costs a packet and a call more."""
    lines = [
        f"{request.method} {request.path} HTTP/1.1",
        *[f"{name}: {text}" for name, text in headers.items()],
        f"content-length: {len(request.body)}",
    ]
    head = "\r\n".join(lines)
    if head.count("\r") + head.count("\n") > 2 * (len(lines) - 1):
        raise BrokenAnswer("a header holds a line break")
    return f"{head}\r\n\r\n".encode("latin-1") + request.body


def _answer(sock: socket.socket, ends: float) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and the whole body of one answer, of which the length must be told: AWS always tells it."""
    found = _received(sock, ends)
    while (end := found.find(b"\r\n\r\n")) < 0:
        if len(found) > _HEAD_BYTES:
            raise BrokenAnswer("the answer's head does not end")
        found += _received(sock, ends)
    status, headers = _head(found[:end])
    length = _length(headers)
    body = found[end + 4 :]
    if len(body) < length:
        body = _rest(sock, bytearray(body), length, ends)
    if len(body) > length:
        raise BrokenAnswer("more than one answer")
    return status, headers, body


def _received(sock: socket.socket, ends: float) -> bytes:
    """What has come, waited for until `ends` at most: a socket's own time-out begins anew with every packet."""
    sock.settimeout(_left(ends))
    block = sock.recv(_BLOCK)
    if not block:
        raise BrokenAnswer("the connection was closed")
    return block


def _head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers, names in lower case. http.client parses them as e-mail, at the cost of the whole rest of a call."""
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if version != b"HTTP/1.1" or not rest[:3].isdigit():
        raise BrokenAnswer("no answer of HTTP/1.1")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    return int(rest[:3]), headers


def _length(headers: Mapping[bytes, bytes]) -> int:
    """Bytes of the body. Raises `BrokenAnswer` for an answer that does not tell them, or tells them otherwise as well."""
    told = headers.get(b"content-length", b"")
    if b"transfer-encoding" in headers or not told.isdigit() or len(told) > len(str(_BODY_BYTES)):
        raise BrokenAnswer("an answer without a length")
    if int(told) > _BODY_BYTES:
        raise BrokenAnswer("an answer that is too long")
    return int(told)


def _rest(sock: socket.socket, found: bytearray, length: int, ends: float) -> bytes:
    """A body of which the beginning is here, read to its end."""
    while len(found) < length:
        sock.settimeout(_left(ends))
        block = sock.recv(_BLOCK)
        if not block:
            raise BrokenAnswer("the answer ended within its body")
        found += block
    return bytes(found)


def sign(request: Request, host: str, credentials: Credentials, scope: Scope) -> dict[str, str]:
    """The request's headers, signed with AWS Signature Version 4."""
    digest = hashlib.sha256(request.body).hexdigest() if request.body else EMPTY_SHA256
    signed = {name.lower(): value for name, value in request.headers.items()}
    signed |= {"host": host, "x-amz-date": scope.moment, "x-amz-content-sha256": digest}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    lines = [f"{name}:{signed[name].strip()}" for name in names]
    canonical = "\n".join([request.method, _quoted(request.path), "", *lines, "", ";".join(names), digest])
    text = f"AWS4-HMAC-SHA256\n{scope.moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_key, scope.moment[:8], scope.region, scope.service)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return signed


@lru_cache(maxsize=8)
def _quoted(path: str) -> str:
    return quote(path, safe="/~")


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _endpoint(service: str, region: str) -> str:
    """Where the service is: the SDKs' standard endpoint variables first, else AWS."""
    named = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")
    return named or f"https://{service}.{region}.amazonaws.com"
