"""The signed client against arbitrary HTTP/1.1 framing: never a wrong response, never beyond the deadline."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from candor.errors import StoreUnavailable
from candor.store.signed.client import AwsRequest, SignedClient, _address
from tests.store.conftest import CREDENTIALS, REGION, point_at

AMPLE_S = 5.0
SHORT_S = 0.3
ASK = AwsRequest("POST", "/", {}, b"{}")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """One list of pieces for each request, sent as they are, then `pause_s` waited; the connection stays open."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.script: list[Sequence[bytes]] = []
        self.pause_s = 0.0
        self.connections = 0
        self.hangs_up = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing.is_set():
            connection, _ = self._socket.accept()
            self.connections += 1
            with connection:
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        try:
            while connection.recv(65_536) and self.script:
                for piece in self.script.pop(0):
                    connection.sendall(piece)
                    if self._closing.wait(self.pause_s):
                        return
                if self.hangs_up:
                    return
        except OSError:
            return  # the client was tired of it

    def close(self) -> None:
        self._closing.set()
        socket.create_connection(self._socket.getsockname()).close()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    peer = Peer()
    point_at(peer.url, monkeypatch)
    yield peer
    peer.close()


@pytest.fixture
def client(peer: Peer) -> Iterator[SignedClient]:
    client = SignedClient("dynamodb", REGION, CREDENTIALS)
    yield client
    client.close()


def test_an_answer_may_come_in_any_pieces(peer, client):
    peer.script = [[OK[:place], OK[place:]] for place in range(1, len(OK))]
    peer.pause_s = 0.002
    for _ in range(1, len(OK)):
        assert client.request(ASK, AMPLE_S).body == b"ok"
    assert peer.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5_000 + b"\r\n\r\nok",
        b"HTTP/1.1 2x0 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-amz-crc32: x\r\n\r\nok",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        OK + b"HTTP/1.1 200 OK\r\n",
    ],
    ids=[
        "no length", "chunked", "chunked and a length", "1xx", "HTTP/1.0", "two lengths", "negative", "huge", "endless digits",
        "no status", "a checksum that is no number", "another protocol", "more than was announced",
    ],
)  # fmt: skip
def test_what_is_not_one_whole_answer_is_none(peer, client, said):
    peer.script = [[said], [OK]]
    with pytest.raises(StoreUnavailable, match="dynamodb: BrokenResponse"):
        client.request(ASK, AMPLE_S)
    assert client.request(ASK, AMPLE_S).body == b"ok"
    assert peer.connections == 2


def test_a_head_without_end_is_given_up(peer, client):
    peer.script = [itertools.repeat(b"x-more: and more\r\n" * 100)]
    with pytest.raises(StoreUnavailable):
        client.request(ASK, AMPLE_S)


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n"], ids=["head", "body"]
)
def test_many_small_pieces_do_not_stretch_the_time_limit(peer, client, head):
    peer.script = [itertools.chain([head] if head else [], itertools.repeat(b"x"))]
    peer.pause_s = SHORT_S / 6
    started = threading.active_count()
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        client.request(ASK, SHORT_S)
    assert threading.active_count() == started


def test_what_was_said_unasked_is_not_the_next_answer(peer, client):
    late = b"HTTP/1.1 408 AwsRequest Timeout\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlate"
    peer.script = [[OK, late], [OK]]
    peer.hangs_up = True
    peer.pause_s = 0.05
    first = client.request(ASK, AMPLE_S)
    time.sleep(0.2)
    assert (first.body, client.request(ASK, AMPLE_S).body) == (b"ok", b"ok")
    assert peer.connections == 2


def test_a_connection_that_was_closed_while_idle_is_not_written_to(peer, client):
    peer.script = [[OK], [OK]]
    peer.hangs_up = True
    assert client.request(ASK, AMPLE_S).body == b"ok"
    time.sleep(0.1)
    assert client.request(ASK, AMPLE_S).body == b"ok"
    assert peer.connections == 2


def test_headers_are_known_whatever_their_case_and_order(peer, client):
    peer.script = [
        [b"HTTP/1.1 200 OK\r\nX-AMZ-CRC32:2044517703\r\nX-Length: 9\r\ncOnTent-LenGth:  2 \r\n\r\nok"]
    ]
    assert client.request(ASK, AMPLE_S).body == b"ok"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("dynamodb.eu-central-1.amazonaws.com", (b"dynamodb.eu-central-1.amazonaws.com", 443)),
        ("localhost:8000", (b"localhost", 8000)),
        ("[::1]", (b"::1", 443)),
        ("[::1]:8000", (b"::1", 8000)),
    ],
)
def test_an_endpoint_is_a_name_and_perhaps_a_port(host, address):
    assert _address(host, 443) == address


@pytest.mark.parametrize(
    "request_",
    [
        AwsRequest("GET", "/a b", {}),
        AwsRequest("GET", "/%41", {}),
        AwsRequest("GET", "/", {"x-y": "1\r\nx-z: 2"}),
    ],
    ids=["a space", "quoted already", "a line break"],
)
def test_what_cannot_be_sent_as_it_is_is_not_sent(peer, client, request_):
    with pytest.raises(StoreUnavailable, match="BrokenResponse"):
        client.request(request_, AMPLE_S)
