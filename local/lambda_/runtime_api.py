"""The Lambda Runtime API of one sandbox: a small HTTP/1.1 server in the invoking thread.

The invoking thread itself reads the sandbox's requests from its sockets, which saves two thread switches per
invocation. Paths and headers: AWS Lambda developer guide, "Using the Lambda runtime API".
"""

from __future__ import annotations

import math
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

BODY_LIMIT = 6 * 1024 * 1024 + 100  # of a synchronous response (AWS Lambda quotas)
_CHUNK = 256 * 1024
_WITHOUT_PIDFD_S = 0.1


class SandboxGone(Exception):
    """The sandbox's process ended; `unread`: before it read the last response."""

    def __init__(self, *, unread: bool) -> None:
        super().__init__("the sandbox process ended")
        self.unread = unread


class DeadlinePassed(Exception):
    """The sandbox sent no request before the deadline."""


class Connection:
    """One keep-alive connection from the sandbox, with its receive buffer."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = accepted
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str], int] | None = None

    def feed(self) -> bool:
        """Receive into the buffer; False when the peer has closed."""
        data = self.socket.recv(_CHUNK)
        self._buffer += data
        return bool(data)

    def take(self) -> RuntimeRequest | None:
        """The next complete request; None until all its bytes have arrived."""
        if self._head is None and not self._parse_head():
            return None
        assert self._head is not None
        method, path, headers, length = self._head
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        return RuntimeRequest(method, path, headers, body, self)

    def _parse_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        method, path, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._head = (method, path, headers, int(headers.get("content-length", "0")))
        return True


@dataclass(frozen=True)
class RuntimeRequest:
    """A request of the sandbox, with the connection for its response."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: Connection

    def respond(self, status: str, headers: dict[str, str], body: bytes, within_s: float) -> None:
        """Send the response. Raises OSError when the sandbox is gone or does not read it in `within_s` seconds."""
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "\r\n"]).encode("latin-1")
        self.connection.socket.settimeout(max(within_s, 0.05))
        self.connection.socket.sendall(head + body)


class RuntimeApi:
    """The server for one sandbox. Used by one thread at a time."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._connections: dict[int, Connection] = {}
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._process: subprocess.Popen[bytes] | None = None
        self._exit_fd = -1
        self._reset = False

    @property
    def address(self) -> str:
        port: int = self._listener.getsockname()[1]
        return f"127.0.0.1:{port}"

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Watch for the end of the sandbox's process: at once by pidfd (Linux), else within 0.1 s."""
        self._process = process
        if sys.platform == "linux":
            self._exit_fd = os.pidfd_open(process.pid)
            self._poll.register(self._exit_fd, select.POLLIN)

    def mark(self) -> None:
        """Clear earlier resets: from here on, a reset means that the next response was not read."""
        self._reset = False

    def next_request(self, deadline: float) -> RuntimeRequest:
        """The sandbox's next request.

        Raises SandboxGone when its process ends first, DeadlinePassed after `deadline` (time.monotonic()).
        """
        while True:
            for descriptor, connection in list(self._connections.items()):
                try:
                    request = connection.take()
                except OSError:
                    self._drop(descriptor)
                    continue
                if request is not None:
                    return request
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlinePassed
            self._await(left)

    def _await(self, left: float) -> None:
        if self._exit_fd < 0:
            left = min(left, _WITHOUT_PIDFD_S)
        ready = {descriptor for descriptor, _ in self._poll.poll(math.ceil(left * 1000))}
        if self._listener.fileno() in ready:
            self._accept()
        read = [self._read(descriptor) for descriptor in ready if descriptor in self._connections]
        if not any(read) and self._ended(ready):
            raise SandboxGone(unread=self._reset)

    def _ended(self, ready: set[int]) -> bool:
        if self._exit_fd >= 0:
            return self._exit_fd in ready
        return self._process is not None and self._process.poll() is not None

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:  # the peer disconnected before accept
            return
        self._connections[accepted.fileno()] = Connection(accepted)
        self._poll.register(accepted, select.POLLIN)

    def _read(self, descriptor: int) -> bool:
        """Read one connection, and drop it when closed; returns whether bytes arrived.

        A process that ends resets its connection if and only if it left received bytes unread (Linux): then the
        request did not reach the handler.
        """
        connection = self._connections[descriptor]
        try:
            if connection.feed():
                return True
        except ConnectionResetError:
            self._reset = True
        except OSError:
            pass  # closed otherwise; only the process's end counts
        self._drop(descriptor)
        return False

    def _drop(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._connections.pop(descriptor).socket.close()

    def close(self) -> None:
        self._listener.close()
        for connection in self._connections.values():
            connection.socket.close()
        self._connections.clear()
        if self._exit_fd >= 0:
            os.close(self._exit_fd)
            self._exit_fd = -1
