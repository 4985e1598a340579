"""A scripted DynamoDB over a real TCP socket: one step of the script per request."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer. `then_close`: the server closes the connection afterwards without announcing it.

    `pause_s` is waited before every 64 KB of the body but the first.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    then_close: bool = False
    pause_s: float = 0.0


BLOCK = 64 * 1024
DROP = "drop the connection without an answer"
HANG = "take the request and stay silent"
Step = Answer | str


def answer(body: Any, status: int = 200, **more: Any) -> Answer:
    """As DynamoDB answers: JSON and its CRC-32."""
    content = json.dumps(body).encode()
    return Answer(status, content, {"x-amz-crc32": str(zlib.crc32(content))}, **more)


def error(kind: str, status: int = 400, **more: Any) -> Answer:
    return answer({"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", **more}, status)


class ScriptedServer(ThreadingTCPServer):
    """Plays `script`, repeating its last step. `requests` are the bodies received, `heads` their headers."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.script: list[Step] = []
        self.requests: list[Any] = []
        self.heads: list[dict[str, str]] = []
        self.connections = 0
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_step(self) -> Step:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class _Conversation(StreamRequestHandler):
    server: ScriptedServer

    def handle(self) -> None:
        self.server.connections += 1
        while (length := self._head()) is not None:
            self.server.requests.append(json.loads(self.rfile.read(length) or b"null"))
            step = self.server.next_step()
            if step == HANG:
                self.server.closing.wait()
            if not isinstance(step, Answer):
                return
            self._say(step)
            if step.then_close:
                return

    def _head(self) -> int | None:
        """Content length of the next request; None when the client has gone."""
        length, headers = 0, {}
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
            headers[name.lower()] = value.strip()
        self.server.heads.append(headers)
        return None if line == b"" else length

    def _say(self, step: Answer) -> None:
        headers = {"content-length": str(len(step.body)), **step.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.wfile.write(f"HTTP/1.1 {step.status} Scripted\r\n{lines}\r\n".encode() + step.body[:BLOCK])
        for place in range(BLOCK, len(step.body), BLOCK):
            if self.server.closing.wait(step.pause_s):
                return
            self.wfile.write(step.body[place : place + BLOCK])


@contextmanager
def serving(server: ScriptedServer) -> Iterator[ScriptedServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()
