"""HTTP/1.1 as AWS speaks it, over one kept-alive socket: whole answers with their length told, each within a time limit.

The socket never blocks; what waits is `poll` alone. A time-out of Python's own costs two more system calls for every message sent
and received, one of them to wait for what is there already.
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
"""No answer is larger: a length beyond it is damage, and nothing is kept free for it."""

_BODY_DIGITS = len(str(_BODY_BYTES))


class BrokenResponse(Exception):
    """What came is not one whole answer of HTTP/1.1, or what is to be sent is no request of it."""


class RawResponse(NamedTuple):
    """Status, head in lower case and body of one answer."""

    status: int
    head: bytes
    body: bytes


class Connection:
    """One connection to a host. Raises `TimeoutError` at the moment `ends` (s, monotonic), `OSError`, `BrokenResponse`."""

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
        """False where the other side hung up, or spoke unasked: what it said may not pass for the next answer."""
        return not self._readable.poll(0)

    def close(self) -> None:
        """Give the connection back."""
        self._socket.close()

    def send(self, data: bytes, ends: float) -> None:
        """All of it."""
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
        """One answer, of which the length must be told: AWS always tells it."""
        received = self._block(ends)
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _HEAD_BYTES:
                raise BrokenResponse("the answer's head does not end")
            received += self._block(ends)
        if not received.startswith(b"HTTP/1.1 ") or not received[9:12].isdigit():
            raise BrokenResponse("no answer of HTTP/1.1")
        head = received[:end].lower()
        length = _length(head)
        body = received[end + 4 :]
        if len(body) < length:
            body = self._rest(body, length, ends)
        if len(body) > length:
            raise BrokenResponse("more than one answer")
        return RawResponse(int(received[9:12]), head, body)

    def _block(self, ends: float) -> bytes:
        """What has come, waited for."""
        while True:
            if not self._pending():
                _wait(self._readable, ends)
            try:
                block = self._socket.recv(_BLOCK)
            except self._not_yet:
                continue  # a record of TLS that is not whole yet
            if not block:
                raise BrokenResponse("the connection was closed")
            return block

    def _rest(self, begun: bytes, length: int, ends: float) -> bytes:
        """A body of which the beginning is here, read to its end."""
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
                raise BrokenResponse("the answer ended within its body")
            left = left[count:]
        return bytes(body)


def header(head: bytes, name: bytes) -> bytes | None:
    """What the one header says that begins so; None without it. Raises `BrokenResponse` where it is there twice.

    http.client parses all of them, as e-mail, at the cost of the whole rest of a call.
    """
    start = head.find(name)
    if start < 0:
        return None
    start += len(name)
    if head.find(name, start) >= 0:
        raise BrokenResponse("a header that is there twice")
    end = head.find(b"\r\n", start)
    return (head[start:] if end < 0 else head[start:end]).strip()


def _length(head: bytes) -> int:
    """Bytes of the body. Raises `BrokenResponse` for an answer that does not tell them, or tells them otherwise as well."""
    digits = header(head, b"\r\ncontent-length:") or b""
    if b"\r\ntransfer-encoding" in head or not digits.isdigit() or len(digits) > _BODY_DIGITS:
        raise BrokenResponse("an answer without a length")
    if int(digits) > _BODY_BYTES:
        raise BrokenResponse("an answer that is too long")
    return int(digits)


def _opened(address: tuple[bytes, int], ends: float) -> socket.socket:
    """A connection to the first place of that name that takes one."""
    failed: OSError = ConnectionRefusedError("nothing is known by that name")
    for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(min(_left(ends), CONNECT_TIMEOUT_S))
            opened.connect(place)
        except OSError as error:
            opened.close()
            failed = error
        else:
            return opened
    raise failed


def _left(ends: float) -> float:
    """Seconds until the moment `ends`. Raises `TimeoutError` where none is left."""
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
    """The context, and what says that a record is not whole yet."""
    import ssl  # where the endpoint speaks no TLS, nobody pays for it

    return ssl.create_default_context(), (ssl.SSLWantReadError, ssl.SSLWantWriteError)
