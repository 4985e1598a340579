"""`python -m benchmarks.load [--clients 32] [--checkouts 2000]`: concurrent shops, and one answer per key.

Posts checkouts to a local system, some several times, at once or later. All answers of a key must be the same
bytes, one of them the decision and the others its replays, and the decisions table must hold one record per key.
`--state` names the folder of a running system, `--url` and `--key` a remote one (its table is not read); without
them a private system is started. Exits with 1 when a guarantee is violated.
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

from candor.store import layout
from demo.sources.simulated import SimulatedLender

RETRYABLE = (429, 500, 502, 503, 504)
_TIMEOUT_S = 60
_ATTEMPTS = 40
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Door:
    """Address of the API and key of a merchant."""

    url: str
    key: str


@dataclass(frozen=True)
class CheckoutCall:
    """Checkout request: Idempotency-Key and body."""

    key: str
    body: bytes


@dataclass(frozen=True)
class CheckoutAnswer:
    """Last response to a call, and the statuses of its retried attempts."""

    key: str
    status: int
    body: bytes
    replayed: bool
    ms: float
    refused: tuple[int, ...] = ()
    """Statuses of earlier attempts; 0 is a failed connection."""


@dataclass
class LoadResult:
    """Result of a load; `broken` has a line for each violated guarantee."""

    keys: int = 0
    decided: int = 0
    replayed: int = 0
    ids: dict[str, bytes] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def calls_for(checkouts: int, seed: int = 1, name: str = "") -> list[CheckoutCall]:
    """Call for each checkout, and duplicates of a third of them: half at the same moment, half at any later one.

    Keys start with `name`; default: a fresh prefix.
    """
    rng = random.Random(seed)
    name = name or f"load-{time.time_ns():x}"
    planned: list[tuple[float, CheckoutCall]] = []
    bodies = itertools.cycle([checkout.body for checkout in SimulatedLender(customers=180).checkouts()])
    for number, body in zip(range(checkouts), bodies, strict=False):
        call = CheckoutCall(
            f"{name}-{number}", json.dumps({**body, "checkout_id": f"{name}-{number}"}).encode()
        )
        planned.append((number, call))
        if rng.random() < 1 / 3:
            together = rng.random() < 0.5
            positions = [
                number + 0.5 if together else rng.uniform(number, checkouts) for _ in range(rng.randint(1, 4))
            ]
            planned += [(position, call) for position in positions]
    return [call for _, call in sorted(planned, key=lambda pair: pair[0])]


def post_all(
    door: Door, calls: Sequence[CheckoutCall], clients: int, *, patient: bool = False
) -> list[CheckoutAnswer]:
    """Answers in the order of the calls. A patient client retries where the status allows it."""
    idle: SimpleQueue[_Client] = SimpleQueue()
    shops = [_Client(door) for _ in range(clients)]

    def post(call: CheckoutCall) -> CheckoutAnswer:
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
    """Connection of one shop."""

    def __init__(self, door: Door) -> None:
        self._address = urlsplit(door.url).netloc
        self._basic = "Basic " + b64encode(f"{door.key}:".encode()).decode()
        self._connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)

    def post(self, call: CheckoutCall, attempts: int) -> CheckoutAnswer:
        started, refused = time.perf_counter(), list[int]()
        for left in reversed(range(attempts)):
            status, body, replayed = self._once(call)
            if left == 0 or (status and status not in RETRYABLE):
                break
            refused.append(status)
            time.sleep(_PAUSE_S)
        return CheckoutAnswer(
            call.key, status, body, replayed, (time.perf_counter() - started) * 1_000, tuple(refused)
        )

    def close(self) -> None:
        self._connection.close()

    def _once(self, call: CheckoutCall) -> tuple[int, bytes, bool]:
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


def check_answers(answers: Sequence[CheckoutAnswer]) -> LoadResult:
    """Check that all answers of a key are one decision. A missing first answer is excused only by a retried attempt."""
    result = LoadResult()
    by_key: dict[str, list[CheckoutAnswer]] = defaultdict(list)
    for answer in answers:
        by_key[answer.key].append(answer)
    result.keys = len(by_key)
    for key, key_answers in by_key.items():
        strange = sorted({answer.status for answer in key_answers} - {200})
        if strange:
            result.broken.append(f"{key}: answered {strange}: {key_answers[0].body[:200]!r}")
            continue
        bodies = {answer.body for answer in key_answers}
        if len(bodies) > 1:
            result.broken.append(f"{key}: {len(bodies)} different answers")
        first = [answer for answer in key_answers if not answer.replayed]
        if len(first) > 1 or (not first and not any(answer.refused for answer in key_answers)):
            result.broken.append(f"{key}: decided {len(first)} times")
        result.decided += len(first)
        result.replayed += len(key_answers) - len(first)
        result.ids[str(json.loads(key_answers[0].body)["id"])] = key_answers[0].body
    if len(result.ids) != result.keys - sum("answered" in line for line in result.broken):
        result.broken.append(f"{len(result.ids)} decisions for {result.keys} keys")
    return result


def stored_answers(state: Path) -> dict[str, bytes]:
    """Records of the decisions table of a running system: id → response body."""
    endpoints = json.loads((state / "endpoints.json").read_text())
    tables = boto3.client(
        "dynamodb",
        region_name=endpoints["AWS_REGION"],
        endpoint_url=endpoints["AWS_ENDPOINT_URL_DYNAMODB"],
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    (name,) = (name for name in tables.list_tables()["TableNames"] if "decisions" in name.lower())
    pages = tables.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    return {
        item[layout.KEY]["S"]: bytes(item[layout.ANSWER]["B"]) for page in pages for item in page["Items"]
    }


def compare(result: LoadResult, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[str]:
    """Lines for records that are missing, unexpected or different."""
    new = {key: body for key, body in after.items() if key not in before}
    if lost := len(before.keys() - after.keys()):
        yield f"{lost} earlier decisions are gone"
    if new != result.ids:
        differing = sum(new.get(key) != body for key, body in result.ids.items())
        extra = len(new.keys() - result.ids.keys())
        yield f"table: {differing} answers differ from their record, {extra} unexpected records"


# --------------------------------------------------------------------------------------------- command line


def door_of(state: Path) -> Door:
    """Door of the system that runs in this folder, with the key of its first merchant."""
    keys = json.loads((state / "journey" / "merchant_keys.json").read_text())
    url = json.loads((state / "endpoints.json").read_text())["API_URL"]
    return Door(url, next(iter(keys.values())))


def door_in(curl: str) -> Door:
    """Door in a printed curl line."""
    words = shlex.split(curl)
    url = next(word for word in words if word.startswith("http"))
    return Door(re.sub(r"/v1/.*", "", url), words[words.index("-u") + 1].rstrip(":"))


@contextmanager
def own_system(state: Path) -> Iterator[Door]:
    """Context manager: private system as `make run` starts it (loaded, trained, serving); its output is printed."""
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
    """Run one load and print its figures; returns the exit code."""
    calls = calls_for(options.checkouts, options.seed)
    before = read() if read else {}
    started = time.perf_counter()
    answers = post_all(door, calls, options.clients)
    seconds = time.perf_counter() - started
    result = check_answers(answers)
    if read:
        result.broken += compare(result, before, read())
    times = sorted(answer.ms for answer in answers)
    statuses = Counter(answer.status for answer in answers)
    print(
        f"clients={options.clients} checkouts={options.checkouts} requests={len(calls)} seconds={seconds:.1f}"
    )
    print(f"rate={len(calls) / seconds:.0f}/s p50={_at(times, 0.5):.0f} ms p99={_at(times, 0.99):.0f} ms")
    print("answers: " + " ".join(f"{status}={count}" for status, count in sorted(statuses.items())))
    table = "table not read" if read is None else f"{len(read()) - len(before)} new records"
    print(f"keys={result.keys} decided={result.decided} replayed={result.replayed} {table}")
    for line in result.broken[:20]:
        print(f"broken: {line}", file=sys.stderr)
    print("every key has one decision" if not result.broken else f"broken={len(result.broken)}")
    return 1 if result.broken else 0


def _at(times: Sequence[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Find or start a system and load it."""
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
