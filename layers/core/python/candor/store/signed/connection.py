"""HTTP/1.1 as AWS uses it, over one keep-alive socket: responses with a Content-Length, each with a deadline.

The socket is non-blocking, and only `poll` waits. Python's own time-outs cost two more system calls per message sent
and received.
"""

from __future__ import annotations

import select
import socket
import time
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl

CONNECT_TIMEOUT_S = 1.0
_BLOCK = 64 * 1024
_HEAD_BYTES = 64 * 1024
_BODY_BYTES = 256 * 1024 * 1024
"""Largest response; a longer Content-Length is treated as damage, without allocating it."""

_BODY_DIGITS = len(str(_BODY_BYTES))


class BrokenResponse(Exception):
    """The response is not one complete HTTP/1.1 response, or the request is not valid HTTP/1.1."""


class RawResponse(NamedTuple):
    """Status, head in lower case, and body of a response."""

    status: int
    head: bytes
    body: bytes


class HttpConnection:
    """A connection to a host. Raises `TimeoutError` at `ends` (s, monotonic), `OSError`, `BrokenResponse`."""

    def __init__(self, address: tuple[bytes, int], ends: float, *, secure: bool) -> None:
        opened = _opened(address, ends)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pending = _nothing
        self._not_yet: tuple[type[OSError], ...] = (BlockingIOError,)
        if secure:
            context, self._not_yet = _tls()
            opened = wrapped = context.wrap_socket(opened, server_hostname=address[0])
            self._pending = wrapped.pending
        opened.setblocking(False)
        self._socket = opened
        self._readable = select.poll()
        self._readable.register(opened, select.POLLIN)

    def is_quiet(self) -> bool:
        """False if the peer closed, or sent unexpected bytes, which must not pass for the next response."""
        return not self._readable.poll(0)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, data: bytes, ends: float) -> None:
        """Send all of `data`."""
        left: bytes | memoryview = data
        while left:
            try:
                sent = self._socket.send(left)
            except self._not_yet:
                writable = select.poll()
                writable.register(self._socket, select.POLLIN | select.POLLOUT)
                _wait(writable, ends)
            else:
                left = memoryview(left)[sent:]

    def receive(self, ends: float) -> RawResponse:
        """Read one response, which must have a Content-Length: AWS's always do."""
        received = self._block(ends)
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _HEAD_BYTES:
                raise BrokenResponse("the response's head does not end")
            received += self._block(ends)
        if not received.startswith(b"HTTP/1.1 ") or not received[9:12].isdigit():
            raise BrokenResponse("not an HTTP/1.1 response")
        head = received[:end].lower()
        length = _length(head)
        body = received[end + 4 :]
        if len(body) < length:
            body = self._rest(body, length, ends)
        if len(body) > length:
            raise BrokenResponse("more than one response")
        return RawResponse(int(received[9:12]), head, body)

    def _block(self, ends: float) -> bytes:
        """Wait for bytes and read them."""
        while True:
            if not self._pending():
                _wait(self._readable, ends)
            try:
                block = self._socket.recv(_BLOCK)
            except self._not_yet:
                continue  # an incomplete TLS record
            if not block:
                raise BrokenResponse("the connection was closed")
            return block

    def _rest(self, begun: bytes, length: int, ends: float) -> bytes:
        """Read a body to its end, from its beginning `begun`."""
        body = bytearray(length)
        body[: len(begun)] = begun
        left = memoryview(body)[len(begun) :]
        while left:
            if not self._pending():
                _wait(self._readable, ends)
            try:
                count = self._socket.recv_into(left)
            except self._not_yet:
                continue
            if not count:
                raise BrokenResponse("the response ended within its body")
            left = left[count:]
        return bytes(body)


def header(head: bytes, name: bytes) -> bytes | None:
    """Value of the header that starts with `name`; None if absent. Raises `BrokenResponse` if it is repeated.

    http.client parses all headers as e-mail, which costs as much as the rest of a call.
    """
    start = head.find(name)
    if start < 0:
        return None
    start += len(name)
    if head.find(name, start) >= 0:
        raise BrokenResponse("a repeated header")
    end = head.find(b"\r\n", start)
    return (head[start:] if end < 0 else head[start:end]).strip()


def _length(head: bytes) -> int:
    """Length of the body. Raises `BrokenResponse` for a missing Content-Length, or a Transfer-Encoding."""
    digits = header(head, b"\r\ncontent-length:") or b""
    if b"\r\ntransfer-encoding" in head or not digits.isdigit() or len(digits) > _BODY_DIGITS:
        raise BrokenResponse("a response without a length")
    if int(digits) > _BODY_BYTES:
        raise BrokenResponse("a response that is too long")
    return int(digits)


def _opened(address: tuple[bytes, int], ends: float) -> socket.socket:
    """Connect to the first address of the name that accepts."""
    failed: OSError = ConnectionRefusedError("the name has no address")
    for family, kind, protocol, _, peer in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(min(_left(ends), CONNECT_TIMEOUT_S))
            opened.connect(peer)
        except OSError as error:
            opened.close()
            failed = error
        else:
            return opened
    raise failed


def _left(ends: float) -> float:
    """Seconds until the deadline `ends`. Raises `TimeoutError` if it has passed."""
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _wait(ready: select.poll, ends: float) -> None:
    if not ready.poll(_left(ends) * 1_000):
        raise TimeoutError


def _nothing() -> int:
    return 0


@lru_cache(maxsize=1)
def _tls() -> tuple[ssl.SSLContext, tuple[type[OSError], ...]]:
    """TLS context, and the exceptions that mean an incomplete record."""
    import ssl  # imported for TLS endpoints alone

    return ssl.create_default_context(), (ssl.SSLWantReadError, ssl.SSLWantWriteError)
