"""The peers' environments, with the start and the request of each."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from benchmarks.request.servers import Peer
from benchmarks.request.world import ROOT, checkout

ENVIRONMENTS = ROOT / ".cache" / "peers"
FOLDER = ROOT / "benchmarks" / "peers"


def installed(name: str) -> Path:
    """The `bin` folder of a peer's environment, installed anew where its requirements have changed."""
    wanted = (FOLDER / name / "requirements.txt").read_bytes()
    place = ENVIRONMENTS / name
    stamp = place / "requirements.sha256"
    digest = hashlib.sha256(wanted).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != digest:
        print(f"installing {name} into {place}", file=sys.stderr, flush=True)
        venv.create(place, clear=True, with_pip=True)
        requirements = str(FOLDER / name / "requirements.txt")
        subprocess.run([place / "bin" / "pip", "install", "--quiet", "-r", requirements], check=True)
        stamp.write_text(digest, encoding="utf-8")
    return place / "bin"


def fastapi(layout: str, environment: Mapping[str, str], log: Path) -> Peer:
    """uvicorn, one worker, on items of so many attributes or packed ones."""
    port = free_port()
    command = [
        str(installed("fastapi") / "python"), *"-m uvicorn app:app --loop uvloop --http httptools".split(),
        *"--no-access-log --log-level warning --port".split(), str(port),
    ]  # fmt: skip

    def request(customer: int) -> tuple[str, bytes]:
        return "/v1/decisions", checkout(customer)

    return Peer(command, FOLDER / "fastapi", port, {**environment, "PEER_LAYOUT": layout}, request, log)


def bentoml(environment: Mapping[str, str], log: Path) -> Peer:
    """`bentoml serve` with one worker."""
    port = free_port()
    places = installed("bentoml")
    command = [str(places / "bentoml"), "serve", "service:Decisions", "--port", str(port)]
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(ENVIRONMENTS / "bentoml" / "home")}

    def request(customer: int) -> tuple[str, bytes]:
        return "/decide", json.dumps({"checkout": json.loads(checkout(customer))}).encode()

    return Peer(command, FOLDER / "bentoml", port, {**environment, **quiet}, request, log)


def free_port() -> int:
    """Free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
