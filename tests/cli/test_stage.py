"""`--local`: every client of the process uses the endpoints of the local system, and no others."""

from __future__ import annotations

import json
import os
import socket

import pytest

from cli.stage import enter_local
from tests.cli.deployed import REGION, Deployed, call
from tests.moto_server import moto_server

NAMES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)
ELSEWHERE = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Restore the environment that a command changes."""
    for name in (*NAMES, *ELSEWHERE):
        monkeypatch.setenv(name, "before")


@pytest.fixture
def state(tmp_path):
    """State folder of a server that answers as the local system does."""
    with moto_server() as url:
        endpoints = {
            **dict.fromkeys(NAMES[:2], url),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "API_URL": "http://127.0.0.1:8080",
        }
        (tmp_path / "endpoints.json").write_text(json.dumps(endpoints))
        yield tmp_path


def test_a_command_works_on_what_runs_here(state):
    enter_local(state)
    Deployed()
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    result = call("serving", "--local", "--state", str(state), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert all(row["serves"] for row in json.loads(result.stdout)["views"])
    assert not any(name in os.environ for name in ELSEWHERE), "nothing leads past the local system"
    assert "API_URL" not in os.environ


def test_a_folder_in_which_nothing_ran_is_told(tmp_path):
    result = call("serving", "--local", "--state", str(tmp_path))
    assert (result.exit_code, "Traceback" in result.stderr) == (1, False)
    assert f"no local system runs in {tmp_path}: start one with `make run`" in result.stderr
    assert os.environ["AWS_ENDPOINT_URL"] == "before"


def test_a_folder_of_a_system_that_was_stopped_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoints = dict.fromkeys(NAMES, f"http://127.0.0.1:{port}")
    (tmp_path / "endpoints.json").write_text(json.dumps(endpoints))
    assert "no local system runs" in call("serving", "--local", "--state", str(tmp_path)).stderr
