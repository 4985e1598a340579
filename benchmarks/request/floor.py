"""Floor F: LightGBM's C-API score and two bare round trips that carry the prepared decision's own bytes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

from benchmarks.request.prepared import PreparedScorer
from benchmarks.request.world import proxied
from candor.model.lightgbm import Booster
from candor.store.signed import client as lean

_CHUNK = 256 * 1024


def bytes_of(prepared: PreparedScorer, customers: int) -> list[tuple[bytes, bytes]]:
    """The bytes that the two calls send, for each customer."""
    sent: list[bytes] = []
    message = lean.message

    def tapped(*of: Any) -> bytes:
        sent.append(message(*of))
        return sent[-1]

    with patch.object(lean, "message", tapped):
        for customer in range(customers):
            prepared.handle(proxied(customer))
    return list(zip(sent[::2], sent[1::2], strict=True))


def floor(
    booster: Booster, rows: Sequence[Sequence[float]], wire: Sequence[tuple[bytes, bytes]], port: int
) -> Callable[[], int]:
    """Callable that scores and makes both round trips for every customer in turn."""
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
    """Send, and receive until the response is complete."""
    connection.sendall(data)
    data_received = connection.recv(_CHUNK)
    head = data_received.index(b"\r\n\r\n") + 4
    at = data_received.index(b"Content-Length: ") + 16
    left = head + int(data_received[at : data_received.index(b"\r", at)]) - len(data_received)
    while left > 0:
        left -= len(connection.recv(_CHUNK))
