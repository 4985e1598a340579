"""Shadows on the running system: the CLI replays a decision, and a shadow's result reaches the archive."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.system.conftest import Served
from tests.system.running import ROOT, environment
from tests.system.test_http import body_of, door_in

PATIENCE_S = 120
"""Longer than the batching windows: ten seconds of the stream, a minute of Firehose."""


def candor(served: Served, *words: str) -> dict[str, Any]:
    """Run one command of the CLI on the running system."""
    command = [sys.executable, "-m", "cli", *words, "--local", "--state", str(served.running.state), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture
def shadowed(served: Served) -> Iterator[Served]:
    """The champion as its own shadow, which must give the same result."""
    champion = candor(served, "models", "shadow", "--none")["champion"]
    assert candor(served, "models", "shadow", champion)["shadows"] == [champion]
    yield served
    candor(served, "models", "shadow", "--none")


def shadow_lines(served: Served) -> list[dict[str, Any]]:
    files = sorted(served.running.state.glob("s3/*archive*/shadows/**/*.gz"))
    return [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]


def test_a_shadow_says_of_a_decision_what_its_bundle_says_and_a_replay_too(shadowed: Served) -> None:
    door = door_in(shadowed.running.curl)
    headers = {"Idempotency-Key": "shadowed", "Authorization": f"Bearer {door.key}"}
    answer = httpx.post(
        f"{door.url}/v1/decisions", json=body_of(shadowed.running.curl), headers=headers, timeout=60
    ).json()
    shown = candor(shadowed, "decisions", "show", answer["id"])
    assert candor(shadowed, "decisions", "replay", answer["id"])["same"]
    until = time.monotonic() + PATIENCE_S
    lines: list[dict[str, Any]] = []
    while not lines and time.monotonic() < until:
        lines = [line for line in shadow_lines(shadowed) if line["id"] == answer["id"]]
        time.sleep(0.2)
    assert [(line["bundle"], line["score"], line["outcome"]) for line in lines] == [
        (shown["bundle"], shown["score"], shown["outcome"])
    ]
