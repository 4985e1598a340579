"""The connection itself, plain and by TLS: messages larger than any buffer, in pieces, within the deadline."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from candor.store.signed import connection as wire
from candor.store.signed.connection import HttpConnection

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
AMPLE_S, SHORT_S = 20.0, 0.3
LARGE = bytes(range(256)) * 16_384  # 4 MB: no buffer of a kernel takes it at once
Talk = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A key and a certificate of `localhost`, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture(params=["plain", "tls"])
def speak(request, certificate, monkeypatch) -> Iterator[Callable[[Talk], HttpConnection]]:
    """A connection to a scripted peer."""
    secure = request.param == "tls"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    wire._tls.cache_clear()
    started: list[threading.Thread] = []
    wires: list[HttpConnection] = []

    def begin(talk: Talk) -> HttpConnection:
        listening = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with (
                listening,
                listening.accept()[0] as plain,
                context.wrap_socket(plain, server_side=True) if secure else plain as end,
            ):
                talk(end)

        started.append(threading.Thread(target=serve))
        started[-1].start()
        address = (b"localhost", listening.getsockname()[1])
        wires.append(HttpConnection(address, time.monotonic() + AMPLE_S, secure=secure))
        return wires[-1]

    yield begin
    for each in wires:
        each.close()
    for thread in started:
        thread.join(AMPLE_S)
    wire._tls.cache_clear()


def taken(end: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (block := end.recv(65_536)):
        received += block
    return received


def test_messages_of_any_size_come_whole_both_ways(speak):
    came: list[bytes] = []

    def talk(end: socket.socket) -> None:
        for body in (b"", b"ok", LARGE, b"ok"):
            time.sleep(0.05)  # until its buffers are full
            came.append(taken(end, len(LARGE)))
            end.sendall(HEAD % len(body) + body)
        end.recv(1)

    spoken = speak(talk)
    for expected in (b"", b"ok", LARGE, b"ok"):
        ends = time.monotonic() + AMPLE_S
        spoken.send(LARGE, ends)
        response = spoken.receive(ends)
        assert (response.status, response.body == expected) == (200, True)
        assert spoken.is_quiet()  # what TLS said for itself came before the answer
    assert all(each == LARGE for each in came)


def test_an_answer_in_pieces_is_one(speak):
    def talk(end: socket.socket) -> None:
        taken(end, 1)
        for piece in (HEAD[:9], HEAD[9:] % 6, b"an", b"sw", b"er"):
            end.sendall(piece)
            time.sleep(0.01)
        end.recv(1)

    spoken, ends = speak(talk), time.monotonic() + AMPLE_S
    spoken.send(b"?", ends)
    assert spoken.receive(ends).body == b"answer"


@pytest.mark.parametrize("said", [b"", HEAD % 6, HEAD % 6 + b"ans"])
def test_what_does_not_come_in_time_is_not_waited_for(speak, said):
    over = threading.Event()

    def talk(end: socket.socket) -> None:
        taken(end, 1)
        if said:
            end.sendall(said)
        over.wait(AMPLE_S)

    spoken, began = speak(talk), time.monotonic()
    spoken.send(b"?", began + SHORT_S)
    with pytest.raises(TimeoutError):
        spoken.receive(began + SHORT_S)
    assert SHORT_S <= time.monotonic() - began < SHORT_S + 2
    over.set()


def test_what_is_not_taken_in_time_is_not_sent_any_more(speak):
    over = threading.Event()
    spoken = speak(lambda end: over.wait(AMPLE_S) and None)
    with pytest.raises(TimeoutError):
        spoken.send(LARGE * 4, time.monotonic() + SHORT_S)
    over.set()


def test_who_hung_up_is_not_quiet(speak):
    gone = threading.Event()

    def talk(end: socket.socket) -> None:
        taken(end, 1)
        end.sendall(HEAD % 2 + b"ok")
        gone.set()

    spoken, ends = speak(talk), time.monotonic() + AMPLE_S
    spoken.send(b"?", ends)
    assert spoken.receive(ends).body == b"ok"
    gone.wait(AMPLE_S)
    time.sleep(0.05)
    assert not spoken.is_quiet()


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    wire._tls.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve() -> None:
        with listening, listening.accept()[0] as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ssl.SSLCertVerificationError):
            HttpConnection(
                (b"localhost", listening.getsockname()[1]), time.monotonic() + AMPLE_S, secure=True
            )
        thread.join(AMPLE_S)
    wire._tls.cache_clear()
