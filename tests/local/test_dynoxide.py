"""An engine that ends by itself is restarted at the same address, with every acknowledged write."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from local.aws import dynoxide
from local.aws.dynoxide import Dynoxide, binary, supported
from local.errors import LocalError

pytestmark = pytest.mark.skipif(not supported(), reason="the engine is published for Linux on x86-64 only")

TABLE = "things"


def client(engine: Dynoxide):
    given = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "eu-west-1"}
    patient = Config(retries={"mode": "standard", "total_max_attempts": 8}, connect_timeout=2, read_timeout=5)
    return boto3.client("dynamodb", endpoint_url=engine.url, config=patient, **given)


@pytest.fixture
def engine(tmp_path: Path):
    running = Dynoxide(tmp_path / "tables.db", tmp_path / "log")
    yield running
    running.close()


def killed(engine: Dynoxide) -> int:
    """Kill it and wait until another process has taken its place."""
    before = engine.pid
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while engine.pid == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.pid != before
    return before


def test_after_a_kill_everything_acknowledged_is_there_at_the_same_address(engine):
    url, tables = engine.url, client(engine)
    tables.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(60):
        if number in (20, 40):
            killed(engine)
        tables.put_item(TableName=TABLE, Item={"pk": {"S": str(number)}})
    killed(engine)
    keys = {item["pk"]["S"] for item in tables.scan(TableName=TABLE, ConsistentRead=True)["Items"]}
    assert (engine.url, keys) == (url, {str(number) for number in range(60)})


def test_what_is_killed_again_while_it_starts_is_started_again(engine, monkeypatch):
    kills = []

    def kill_it_first(port: int) -> bool:
        if len(kills) < 3:
            kills.append(engine.pid)
            os.kill(engine.pid, signal.SIGKILL)
            engine._process.wait(10)
        return answers(port)

    answers = dynoxide._answers
    monkeypatch.setattr(dynoxide, "_answers", kill_it_first)
    os.kill(engine.pid, signal.SIGKILL)
    assert client(engine).list_tables()["TableNames"] == []
    assert len(set(kills)) == 3


def test_once_closed_it_stays_away(tmp_path: Path):
    engine = Dynoxide(tmp_path / "tables.db", tmp_path / "log")
    killed(engine)
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(engine.pid, 0)


def test_a_file_that_is_no_database_is_reported_in_one_line(tmp_path: Path):
    (tmp_path / "tables.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(LocalError, match=r"did not start: read .*log, or run `make reset`"):
        Dynoxide(tmp_path / "tables.db", tmp_path / "log")


def test_its_program_is_that_of_the_lock_file():
    assert binary().exists()
