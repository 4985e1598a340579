"""moto behind an address of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

from moto.moto_api._internal import moto_api_backend
from moto.server import ThreadedMotoServer


@contextmanager
def moto_server() -> Iterator[str]:
    """The address of an empty account: every server, and every `mock_aws`, of a process shares the same backends."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    moto_api_backend.reset()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        moto_api_backend.reset()
