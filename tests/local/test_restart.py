"""The state of a system after it was closed, interrupted by Ctrl-C, and killed by kill -9."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.__main__ import main
from local.aws.sqs import DurableQueue
from local.errors import LocalError, StateMismatch
from local.state import Journal
from local.system import LocalSystem

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]

LOADER = """
import json, sys, time
from local.system import LocalSystem

with LocalSystem(sys.argv[1], sys.argv[2], 0) as system:
    n = 0
    while True:
        entries = [
            {"Source": "test", "DetailType": "made", "Detail": json.dumps({"event_id": f"evt_{n + i}"}),
             "EventBusName": "small-bus"} for i in range(10)
        ]
        system.publish(entries)
        n += 10
        print(n, flush=True)
        if n % 100 == 0:
            system.flush()
        time.sleep(0.005)
"""

WORKER = """
import sys
from pathlib import Path
from local.aws.sqs import DurableQueue
from local.state import Journal

letters = DurableQueue("letters", "arn:aws:sqs:r:a:letters", Journal(Path(sys.argv[1])))
letters.send([str(n) for n in range(100)])
received = letters.receive(60)
letters.delete([message.receipt for message in received[:40]])
print("done", flush=True)
sys.stdin.read()
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def children(pid: int) -> list[int]:
    """Processes that were started by `pid`, which may be dead; zombies are not counted."""
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            children.append(int(folder.name))
    return children


def gone(pids: list[int], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            return True
        time.sleep(0.02)
    return False


def entry(n: int) -> dict[str, Any]:
    return {
        "Source": "test",
        "DetailType": "made",
        "Detail": json.dumps({"event_id": f"evt_{n}"}),
        "EventBusName": "small-bus",
    }


def archived(system: LocalSystem) -> list[str]:
    event_ids = []
    for key, file in system._aws.mirror.contents(system.outputs["ArchiveName"], "events/"):
        assert key.endswith(".gz")
        lines = gzip.decompress(file.read_bytes()).splitlines()
        event_ids += [json.loads(line)["detail"]["event_id"] for line in lines]
    return event_ids


def stored(system: LocalSystem) -> set[str]:
    pages = system.client("dynamodb").get_paginator("scan").paginate(TableName=system.outputs["TableName"])
    return {item["pk"]["S"] for page in pages for item in page["Items"]}


def test_a_killed_process_leaves_exactly_the_messages_that_were_not_deleted(tmp_path: Path) -> None:
    worker = start(WORKER, tmp_path / "journal.sqlite")
    assert worker.stdout is not None
    assert worker.stdout.readline() == "done\n"
    kill(worker)
    journal = Journal(tmp_path / "journal.sqlite")
    messages = DurableQueue("letters", "arn:aws:sqs:r:a:letters", journal).receive(1000)
    assert [message.body for message in messages] == [str(n) for n in range(40, 100)]
    assert Counter(message.received for message in messages) == {2: 20, 1: 40}
    journal.close()


def test_a_killed_system_loses_nothing_archives_nothing_twice_and_leaves_no_process(
    small_assembly: Path, tmp_path: Path
) -> None:
    loader = start(LOADER, small_assembly, tmp_path)
    assert loader.stdout is not None
    accepted = 0
    while accepted < 400:
        accepted = int(loader.stdout.readline())
    started = children(loader.pid)
    assert started
    kill(loader)
    assert gone(started)
    with LocalSystem(small_assembly, tmp_path, 0, say=lambda _: None) as system:
        system.drain(30)
        known = {f"evt_{n}" for n in range(accepted)}
        assert known <= stored(system)
        copies = Counter(archived(system))
        assert known <= set(copies)
        assert set(copies.values()) == {1}
        assert set(copies) == stored(system)


def up(assembly: Path, state: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "local",
        "up",
        "--assembly",
        str(assembly),
        "--state",
        str(state),
        "--port",
        "0",
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_signals_end_the_system_and_all_its_processes(small_assembly: Path, tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    systems = [up(small_assembly, tmp_path / number.name) for number in numbers]
    for system, number in zip(systems, numbers, strict=True):
        assert system.stdout is not None
        assert system.stdout.readline().startswith("READY http://127.0.0.1:")
        started = children(system.pid)
        os.kill(system.pid, number)
        assert system.communicate(timeout=20)[0] == "stopped\n"
        assert system.returncode == 0
        assert gone(started)


def test_a_system_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.command.stop_on_signals", lambda: None)
    assert main(["up", "--assembly", str(tmp_path), "--state", str(tmp_path / "s")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: {tmp_path} holds no synthesized app: run `make synth`\n"


@pytest.mark.parametrize("port", ["80x", "-1", "8080.0", "٨٠٨٠"])
def test_a_port_that_is_no_number_is_reported_in_one_line(
    port: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.command.stop_on_signals", lambda: None)
    monkeypatch.setenv("PORT", port)
    assert main(["up"]) == 1
    assert capsys.readouterr() == ("", f"error: PORT={port} is not a port: use a number such as PORT=8090\n")


def test_state_is_there_again(small_assembly: Path, tmp_path: Path) -> None:
    keys = []
    for start in range(2):
        with LocalSystem(small_assembly, tmp_path, 0, say=lambda _: None) as system:
            s3, ssm, bucket = system.client("s3"), system.client("ssm"), system.outputs["ArchiveName"]
            keys.append(system.client("secretsmanager").get_secret_value(SecretId=system.outputs["KeyArn"]))
            if start == 0:
                for key in ("a/b.txt", "a", "a/../c", "gone", "ü/" + "x" * 300):
                    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
                s3.delete_object(Bucket=bucket, Key="gone")
                ssm.put_parameter(Name="/small/limit", Value="9", Type="String", Overwrite=True)
                system.publish([entry(n) for n in range(5)])
                continue
            object_keys = {o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]}
            assert {key for key in object_keys if not key.startswith("events/")} == {
                "a/b.txt",
                "a",
                "a/../c",
                "ü/" + "x" * 300,
            }
            assert s3.get_object(Bucket=bucket, Key="a/../c")["Body"].read() == b"a/../c"
            assert ssm.get_parameter(Name="/small/limit")["Parameter"]["Value"] == "9"
            system.drain(20)
            assert stored(system) == {f"evt_{n}" for n in range(5)}
            assert sorted(archived(system)) == [f"evt_{n}" for n in range(5)]
    assert keys[0]["SecretString"] == keys[1]["SecretString"]
    assert len(keys[0]["SecretString"]) == 40


def test_another_key_schema_asks_for_make_clean(
    assembly_of: Callable[..., Path], small_assembly: Path, template: dict[str, Any], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with LocalSystem(small_assembly, state, 0, say=lambda _: None):
        pass
    table = template["Resources"]["Table"]["Properties"]
    table["KeySchema"][0]["AttributeName"] = table["AttributeDefinitions"][0]["AttributeName"] = "other"
    with pytest.raises(StateMismatch, match="run `make reset`"):
        LocalSystem(assembly_of(small=template), state, 0, say=lambda _: None).__enter__()
    assert issubclass(StateMismatch, LocalError)
