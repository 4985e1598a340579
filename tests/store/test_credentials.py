"""Credentials of a restored sandbox: from the container's own address, and never from anywhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from candor.clock import parse_rfc3339
from candor.errors import StoreUnavailable
from candor.store.signed.client import Credentials
from candor.store.signed.credentials import Lease, lease
from tests.store.scripted import DROP, Answer, ScriptedServer, serving

EXPIRATION = "2026-11-26T21:00:00Z"
LEASE = {
    "AccessKeyId": "a",
    "SecretAccessKey": "s",
    "Token": "t",
    "Expiration": EXPIRATION,
    "Type": "AWS-HMAC",
}


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serving(ScriptedServer()) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "open sesame")
        yield server


def leased(**changed: Any) -> Answer:
    return Answer(200, json.dumps(LEASE | changed).encode())


def test_the_container_is_asked_with_its_token(container):
    container.script = [leased()]
    assert lease() == Lease(Credentials("a", "s", "t"), parse_rfc3339(EXPIRATION))
    assert container.heads[0]["authorization"] == "open sesame"


def test_keys_in_the_environment_are_asked_of_nobody_and_do_not_expire(container, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "b")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "u")
    assert lease() == Lease(Credentials("b", "u"), inf)
    assert container.requests == []


@pytest.mark.parametrize(
    "step",
    [Answer(403, b"{}"), Answer(200, b"not JSON"), leased(Expiration="tomorrow"), leased(Token=None), Answer(200, b"\xff"), DROP],
    ids=["refused", "no JSON", "no moment", "no token", "no text", "dropped"],
)  # fmt: skip
def test_what_holds_no_credentials_is_unavailable(container, step):
    container.script = [step]
    with pytest.raises(StoreUnavailable, match="credentials of the container"):
        lease()


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1/x",
        "https://127.0.0.1/x",
        "file:///etc/passwd",
        "127.0.0.1",
        "http://127.0.0.1:port/",
    ],
)
def test_only_this_host_is_asked(container, monkeypatch, address):
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
    with pytest.raises(StoreUnavailable, match="credentials of the container"):
        lease()
