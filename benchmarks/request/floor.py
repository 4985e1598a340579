"""Floor F: LightGBM's C-API score and two bare round trips that carry the prepared decision's own bytes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from http.client import HTTPConnection

from benchmarks.request.prepared import Prepared
from benchmarks.request.world import proxied
from candor.model.engine import Booster
from candor.store.hot import HotStore

_CHUNK = 256 * 1024


def bytes_of(prepared: Prepared, store: HotStore, customers: int) -> list[tuple[bytes, bytes]]:
    """The bytes that the two calls send, for each customer."""
    sent: list[bytes] = []
    prepared.handle(proxied(0))
    connection = store._client._connection  # noqa: SLF001 - the wire is what is wanted
    assert isinstance(connection, HTTPConnection)
    send = connection.send

    def tapped(data: bytes) -> None:
        sent.append(data)
        send(data)

    connection.send = tapped  # type: ignore[method-assign, assignment]
    pairs = []
    for customer in range(customers):
        prepared.handle(proxied(customer))
        read, write = sent[: len(sent) // 2], sent[len(sent) // 2 :]  # a client may send head and body apart
        pairs.append((b"".join(read), b"".join(write)))
        sent.clear()
    del connection.send
    return pairs


def floor(
    booster: Booster, rows: Sequence[Sequence[float]], wire: Sequence[tuple[bytes, bytes]], port: int
) -> Callable[[], int]:
    """Does it for every customer in turn."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call() -> int:
        for row, (read, write) in zip(rows, wire, strict=True):
            _trip(connection, read)
            booster.raw(row)
            _trip(connection, write)
        return len(wire)

    return call


def _trip(connection: socket.socket, data: bytes) -> None:
    """Send, and take what comes until the answer is whole."""
    connection.sendall(data)
    found = connection.recv(_CHUNK)
    head = found.index(b"\r\n\r\n") + 4
    at = found.index(b"Content-Length: ") + 16
    left = head + int(found[at : found.index(b"\r", at)]) - len(found)
    while left > 0:
        left -= len(connection.recv(_CHUNK))
