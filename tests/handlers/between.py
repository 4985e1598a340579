"""Proxy between the scorer and its dependencies, transparent until a fault is set for an operation."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Reply(NamedTuple):
    """A response in flight; `pause_s` is waited before each of its last 16 parts."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    pause_s: float = 0.0


class Exchange(NamedTuple):
    """A request in flight: `forward` sends it to the dependency, `closing` is set when the test is over."""

    operation: str
    body: bytes
    forward: Callable[[], Reply]
    closing: threading.Event


Fault = Callable[[Exchange], Reply | None]
"""Handler of a request; None closes the connection without a response."""


def silent(exchange: Exchange) -> None:
    """Accepts the request and never responds."""
    exchange.closing.wait()


def hung_up(_exchange: Exchange) -> None:
    """Closes the connection before forwarding."""


def lost(exchange: Exchange) -> None:
    """Forwards the request, and closes the connection without a response."""
    exchange.forward()


def refused(kind: str, status: int = 400) -> Fault:
    """Answers with DynamoDB's error of this kind."""
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{kind}"}).encode()
    return lambda _: Reply(status, {}, body)


def slow(exchange: Exchange) -> Reply:
    """The right answer, 16 parts in eight seconds."""
    return exchange.forward()._replace(pause_s=0.5)


def unprocessed(table: str) -> Fault:
    """BatchGetItem, in which the keys of one table always come back unprocessed."""

    def leave(exchange: Exchange) -> Reply:
        requested = json.loads(exchange.body)["RequestItems"]
        reply = exchange.forward()
        answer = json.loads(reply.body)
        answer["Responses"].pop(table, None)
        answer["UnprocessedKeys"] = {name: keys for name, keys in requested.items() if name == table}
        return Reply(reply.status, {}, json.dumps(answer).encode())

    return leave


class Between(ThreadingHTTPServer):
    """A proxy before `upstream`. A fault applies to a number of requests of its operation, or to all."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream = urlsplit(upstream).netloc
        self.closing = threading.Event()
        self._faults: dict[str, tuple[Fault, float]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fail(self, operation: str, fault: Fault, times: float = float("inf")) -> None:
        self._faults[operation] = (fault, times)

    def mend(self) -> None:
        self._faults.clear()

    def fault_of(self, operation: str) -> Fault:
        """The handler of the operation's next request."""
        with self._lock:
            fault, times = self._faults.get(operation, (hung_up, 0))
            if times < 1:
                return lambda exchange: exchange.forward()
            self._faults[operation] = (fault, times - 1)
            return fault

    def end(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class _Passing(BaseHTTPRequestHandler):
    server: Between
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        self._pass("GetObject")

    def do_POST(self) -> None:
        self._pass(self.headers["x-amz-target"].rpartition(".")[2])

    def log_message(self, *_: Any) -> None:
        """No log on standard error."""

    def _pass(self, operation: str) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        exchange = Exchange(operation, body, lambda: self._forward(body), self.server.closing)
        reply = self.server.fault_of(operation)(exchange)
        if reply is None:
            self.close_connection = True
            return
        try:
            self._say(reply)
        except OSError:  # the scorer does not wait for it any longer
            self.close_connection = True

    def _forward(self, body: bytes) -> Reply:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = connection.getresponse()
            kept = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() in ("content-type", "x-amz-crc32", "etag")
            }
            return Reply(answer.status, kept, answer.read())
        finally:
            connection.close()

    def _say(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        step = max(len(reply.body) // 16, 1) if reply.pause_s else max(len(reply.body), 1)
        for place in range(0, len(reply.body), step):
            if self.server.closing.wait(reply.pause_s):
                return
            self.wfile.write(reply.body[place : place + step])
            self.wfile.flush()
