"""Feast on the same stub: its tables filled by itself, its SDK behind uvicorn with LightGBM, and its feature server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.request.peers import ENVIRONMENTS, FOLDER, free_port, installed
from benchmarks.request.servers import Peer
from benchmarks.request.world import CUSTOMERS, FEATURES

_FOLDER = ENVIRONMENTS / "feast" / "repository"
_SETTINGS = """project: peers
provider: aws
registry: {folder}/registry.db
entity_key_serialization_version: 3
online_store:
  type: dynamodb
  region: us-east-1
  endpoint_url: {endpoint}
"""


def in_process(environment: Mapping[str, str], log: Path) -> Peer:
    """`get_online_features` of all 120 features, then LightGBM; fills the tables first. Nothing is recorded."""
    places, port = installed("feast"), free_port()
    shutil.rmtree(
        _FOLDER, ignore_errors=True
    )  # a registry that knows the view would not create its table again
    variables = _variables(environment)
    with log.open("ab") as output:
        subprocess.run(
            [places / "python", FOLDER / "feast" / "store.py", "fill"],
            env={"PATH": os.environ["PATH"], **variables},
            stdout=output,
            stderr=output,
            check=True,
        )

    def request(customer: int) -> tuple[str, bytes]:
        return "/score", json.dumps({"customer": f"cus_{customer}"}).encode()

    command = [str(places / "python"), *"-m uvicorn store:app --no-access-log --port".split(), str(port)]
    return Peer(command, FOLDER / "feast", port, variables, request, log)


def server(environment: Mapping[str, str], log: Path) -> Peer:
    """`feast serve` with one worker: it reads the features, and that is all."""
    places, port = installed("feast"), free_port()
    variables = _variables(environment)
    settings = _SETTINGS.format(folder=_FOLDER, endpoint=environment["AWS_ENDPOINT_URL"])
    (_FOLDER / "feature_store.yaml").write_text(settings, encoding="utf-8")
    features = [f"finished:f{number}" for number in range(FEATURES)]

    def request(customer: int) -> tuple[str, bytes]:
        request_body = {"features": features, "entities": {"customer": [f"cus_{customer}"]}}
        return "/get-online-features", json.dumps(request_body).encode()

    command = [str(places / "feast"), "-c", str(_FOLDER), *"serve --no-access-log -w 1 -p".split(), str(port)]
    return Peer(command, _FOLDER, port, variables, request, log)


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    return {
        **environment,
        "PEER_FOLDER": str(_FOLDER),
        "PEER_CUSTOMERS": str(CUSTOMERS),
        "FEAST_USAGE": "False",
    }
