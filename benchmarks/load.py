"""`python -m benchmarks.load [--clients 32] [--checkouts 2000]`: many shops at once, and none gets two answers.

Posts checkouts to a local system, some several times, at the same moment or later. All answers of one key must be the
same bytes, one of them the decision and the others its replays, and the decisions table must hold one record a key.
`--state` names the folder of a system that serves, `--url` and `--key` one that is only reachable (then the table is not
read); without them a system of its own is started. Exits with 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urlsplit

import boto3

from demo.sources.simulated import SimulatedLender

RETRYABLE = (429, 500, 502, 503, 504)
_TIMEOUT_S = 60
_ATTEMPTS = 40
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Door:
    """Where a merchant posts: the API's address and the merchant's key."""

    url: str
    key: str


@dataclass(frozen=True)
class Call:
    """One request: an Idempotency-Key and the body that belongs to it."""

    key: str
    body: bytes


@dataclass(frozen=True)
class Answered:
    """What came back last, and what had to be tried again before it."""

    key: str
    status: int
    body: bytes
    replayed: bool
    ms: float
    refused: tuple[int, ...] = ()
    """Statuses of earlier attempts; 0 is a broken connection."""


@dataclass
class Verdict:
    """What a load showed; `broken` holds one line a broken promise."""

    keys: int = 0
    decided: int = 0
    replayed: int = 0
    ids: dict[str, bytes] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def calls_for(checkouts: int, seed: int = 1, name: str = "") -> list[Call]:
    """One call for each checkout and duplicates of a third of them: half at the same moment, half any time later.

    Keys start with `name`, by default one that no earlier load used.
    """
    rng = random.Random(seed)
    name = name or f"load-{time.time_ns():x}"
    planned: list[tuple[float, Call]] = []
    bodies = itertools.cycle([one.body for one in SimulatedLender(customers=60).checkouts()])
    for number, body in zip(range(checkouts), bodies, strict=False):
        call = Call(f"{name}-{number}", json.dumps({**body, "checkout_id": f"{name}-{number}"}).encode())
        planned.append((number, call))
        if rng.random() < 1 / 3:
            together = rng.random() < 0.5
            places = [
                number + 0.5 if together else rng.uniform(number, checkouts) for _ in range(rng.randint(1, 4))
            ]
            planned += [(place, call) for place in places]
    return [call for _, call in sorted(planned, key=lambda one: one[0])]


def post_all(door: Door, calls: Sequence[Call], clients: int, *, patient: bool = False) -> list[Answered]:
    """Answers in the order of the calls. A patient client sends the same again when told that it may."""
    idle: SimpleQueue[_Client] = SimpleQueue()
    shops = [_Client(door) for _ in range(clients)]

    def post(call: Call) -> Answered:
        client = idle.get()
        try:
            return client.post(call, _ATTEMPTS if patient else 1)
        finally:
            idle.put(client)

    for shop in shops:
        idle.put(shop)
    try:
        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(post, calls))
    finally:
        for shop in shops:
            shop.close()


class _Client:
    """One shop's connection."""

    def __init__(self, door: Door) -> None:
        self._address = urlsplit(door.url).netloc
        self._basic = "Basic " + b64encode(f"{door.key}:".encode()).decode()
        self._connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)

    def post(self, call: Call, attempts: int) -> Answered:
        started, refused = time.perf_counter(), list[int]()
        for left in reversed(range(attempts)):
            status, body, replayed = self._once(call)
            if left == 0 or (status and status not in RETRYABLE):
                break
            refused.append(status)
            time.sleep(_PAUSE_S)
        return Answered(
            call.key, status, body, replayed, (time.perf_counter() - started) * 1_000, tuple(refused)
        )

    def close(self) -> None:
        self._connection.close()

    def _once(self, call: Call) -> tuple[int, bytes, bool]:
        headers = {
            "Authorization": self._basic,
            "Idempotency-Key": call.key,
            "Content-Type": "application/json",
        }
        try:
            self._connection.request("POST", "/v1/decisions", call.body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Idempotent-Replayed") == "true"
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, b"", False


def judge(answers: Sequence[Answered]) -> Verdict:
    """Are all answers of a key one decision? The first answer may be lost with its sender, so only retries excuse that."""
    verdict = Verdict()
    by_key: dict[str, list[Answered]] = defaultdict(list)
    for answer in answers:
        by_key[answer.key].append(answer)
    verdict.keys = len(by_key)
    for key, found in by_key.items():
        strange = sorted({one.status for one in found} - {200})
        if strange:
            verdict.broken.append(f"{key}: answered {strange}: {found[0].body[:200]!r}")
            continue
        bodies = {one.body for one in found}
        if len(bodies) > 1:
            verdict.broken.append(f"{key}: {len(bodies)} different answers")
        first = [one for one in found if not one.replayed]
        if len(first) > 1 or (not first and not any(one.refused for one in found)):
            verdict.broken.append(f"{key}: decided {len(first)} times")
        verdict.decided += len(first)
        verdict.replayed += len(found) - len(first)
        verdict.ids[str(json.loads(found[0].body)["id"])] = found[0].body
    if len(verdict.ids) != verdict.keys - sum("answered" in line for line in verdict.broken):
        verdict.broken.append(f"{len(verdict.ids)} decisions for {verdict.keys} keys")
    return verdict


def stored_answers(state: Path) -> dict[str, bytes]:
    """Every record of the decisions table of a system that serves: id → the merchant's body."""
    found = json.loads((state / "endpoints.json").read_text())
    tables = boto3.client(
        "dynamodb",
        region_name=found["AWS_REGION"],
        endpoint_url=found["AWS_ENDPOINT_URL_DYNAMODB"],
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    (name,) = (name for name in tables.list_tables()["TableNames"] if "decisions" in name.lower())
    pages = tables.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    return {item["pk"]["S"]: bytes(item["a"]["B"]) for page in pages for item in page["Items"]}


def compare(verdict: Verdict, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[str]:
    """Lines about what the table holds and should not, or the other way round."""
    new = {key: body for key, body in after.items() if key not in before}
    if lost := len(before.keys() - after.keys()):
        yield f"{lost} earlier decisions are gone"
    if new != verdict.ids:
        differing = sum(new.get(key) != body for key, body in verdict.ids.items())
        extra = len(new.keys() - verdict.ids.keys())
        yield f"table: {differing} answers differ from their record, {extra} records that nobody asked for"


# --------------------------------------------------------------------------------------------- command line


def door_of(state: Path) -> Door:
    """The door of the system that serves from this folder, with the key of its first merchant."""
    keys = json.loads((state / "journey" / "merchant_keys.json").read_text())
    url = json.loads((state / "endpoints.json").read_text())["API_URL"]
    return Door(url, next(iter(keys.values())))


def door_in(curl: str) -> Door:
    """The door that a printed curl line uses."""
    words = shlex.split(curl)
    url = next(word for word in words if word.startswith("http"))
    return Door(re.sub(r"/v1/.*", "", url), words[words.index("-u") + 1].rstrip(":"))


@contextmanager
def own_system(state: Path) -> Iterator[Door]:
    """A system of its own, as `make run` starts it: loaded, trained, serving. What it says is shown as it says it."""
    environment = {name: text for name, text in os.environ.items() if name != "ONCE"}
    command = [sys.executable, "-m", "demo", "--state", str(state), "--port", "0"]
    system = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert system.stdout is not None
    try:
        curl = ""
        for line in system.stdout:
            print(line, end="", flush=True)
            curl = line if line.startswith("curl ") else curl
            if line.startswith("READY "):
                break
        else:
            raise SystemExit("the system did not start")
        yield door_in(curl)
    finally:
        system.send_signal(signal.SIGINT)
        system.communicate()


def measure(door: Door, read: Callable[[], Mapping[str, bytes]] | None, options: argparse.Namespace) -> int:
    """One load, told in a few lines; the exit code."""
    calls = calls_for(options.checkouts, options.seed)
    before = read() if read else {}
    started = time.perf_counter()
    answers = post_all(door, calls, options.clients)
    seconds = time.perf_counter() - started
    verdict = judge(answers)
    if read:
        verdict.broken += compare(verdict, before, read())
    times = sorted(answer.ms for answer in answers)
    statuses = Counter(answer.status for answer in answers)
    print(
        f"clients={options.clients} checkouts={options.checkouts} requests={len(calls)} seconds={seconds:.1f}"
    )
    print(f"rate={len(calls) / seconds:.0f}/s p50={_at(times, 0.5):.0f} ms p99={_at(times, 0.99):.0f} ms")
    print("answers: " + " ".join(f"{status}={count}" for status, count in sorted(statuses.items())))
    table = "table not read" if read is None else f"{len(read()) - len(before)} new records"
    print(f"keys={verdict.keys} decided={verdict.decided} replayed={verdict.replayed} {table}")
    for line in verdict.broken[:20]:
        print(f"broken: {line}", file=sys.stderr)
    print("every key has one decision" if not verdict.broken else f"broken={len(verdict.broken)}")
    return 1 if verdict.broken else 0


def _at(times: Sequence[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Find or start a system, load it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--checkouts", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="folder of a system that serves, such as .local")
    parser.add_argument("--url", help="address of an API; needs --key")
    parser.add_argument("--key", help="merchant key")
    options = parser.parse_args(arguments)
    if options.url:
        if not options.key:
            parser.error("--url needs --key")
        return measure(Door(options.url, options.key), None, options)
    if options.state:
        return measure(door_of(options.state), lambda: stored_answers(options.state), options)
    with tempfile.TemporaryDirectory() as folder, own_system(Path(folder)) as door:
        return measure(door, lambda: stored_answers(Path(folder)), options)


if __name__ == "__main__":
    sys.exit(main())
