"""`python -m benchmarks.crashes [--requests 10000] [--threads 32]`: one decision per key despite crashes.

Scorers on a local DynamoDB engine, one per thread, decide checkouts under keys that are sent once or several times.
A scorer crashes at random after its read, or after its write and before its answer; the client retries. Checked:
every key has one decision, all its answers are the stored bytes, at most one was not a replay, and each checkout
counts once in the items of synchronous views. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import boto3

from candor.champion import Champions
from candor.clock import DAY, Deadline, SystemClock
from candor.contracts import Application, parse_checkout
from candor.decide import Attempt, Decider
from candor.errors import StoreUnavailable
from candor.features.state import ViewState
from candor.model.bundle import Bundle
from candor.store import layout
from candor.store.protocol import Commit, Contended, DecisionStore, Snapshot, StoredDecision
from candor.store.scorer import ScorerStore
from candor.store.signed.client import Credentials
from candor.updates import Retention
from lender import DEFINITIONS, MONOTONE, REASONS, REGULATION_PROFILE, policy
from local.aws.dynoxide import Dynoxide
from tests.handlers.checkouts import checkout
from tests.trained import train

REGION = "us-east-1"
TABLES = ("features", "synchronous", "decisions", "registry")
CUSTOMERS = 400
DEADLINE_S = 20.0
COUNTED = "customer_checkouts"
"""A synchronous view that counts checkouts."""


class Crashed(Exception):
    """Simulated crash of the scorer's process."""


class CrashingStore:
    """Scorer's store whose process crashes with this probability at each of two points."""

    def __init__(self, store: DecisionStore, rng: random.Random, probability: float) -> None:
        self._store, self._rng, self._probability = store, rng, probability
        self.deaths = Counter[str]()

    def read(self, keys: Sequence[str], timeout_s: float, synchronous: Sequence[str] = ()) -> Snapshot:
        snapshot = self._store.read(keys, timeout_s, synchronous)
        self._maybe_crash("between the calls")
        return snapshot

    def record(
        self, decision: StoredDecision, timeout_s: float, commits: Sequence[Commit] = ()
    ) -> StoredDecision | Contended | None:
        result = self._store.record(decision, timeout_s, commits)
        self._maybe_crash("after the write")
        return result

    def _maybe_crash(self, place: str) -> None:
        if self._rng.random() < self._probability:
            self.deaths[place] += 1
            raise Crashed


class KeyedRequest(NamedTuple):
    """A request under its key."""

    key: str
    application: Application


class KeyAnswer(NamedTuple):
    """Answer to a key, and whether it was a replay."""

    key: str
    body: bytes
    replayed: bool


@dataclass
class CrashOutcome:
    """Result of a run; `broken` has a line for each violated guarantee."""

    keys: int = 0
    requests: int = 0
    replays: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def calls(requests: int, seed: int) -> list[KeyedRequest]:
    """Requests in random order: some keys once, some up to five times."""
    rng = random.Random(seed)
    planned: list[KeyedRequest] = []
    while len(planned) < requests:
        number = len(planned)
        body = checkout(1_000, token=f"cus_{rng.randrange(CUSTOMERS)}", checkout_id=f"chk_{number}")
        application = Application(parse_checkout(json.dumps(body).encode()), "mer_1")
        planned += [KeyedRequest(f"key-{number}", application)] * rng.choice((1, 1, 2, 3, 5))
    rng.shuffle(planned)
    return planned[:requests]


class Scorers:
    """Scorers, one per thread, created by the thread's first request."""

    def __init__(self, bundle: Bundle, probability: float, seed: int) -> None:
        self._bundle, self._probability, self._seed = bundle, probability, seed
        self._data = bundle.to_bytes()
        self._local = threading.local()
        self._lock = threading.Lock()
        self.stores: list[CrashingStore] = []
        self._hot: list[ScorerStore] = []

    def decide(self, call: KeyedRequest) -> KeyAnswer:
        """Send the request until it is answered, as a retrying merchant does."""
        while True:
            try:
                answer = self._decider().decide(Attempt(call.application, call.key), Deadline(DEADLINE_S))
            except (Crashed, StoreUnavailable):
                continue
            return KeyAnswer(call.key, answer.body, answer.replayed)

    def _decider(self) -> Decider:
        if not hasattr(self._local, "decider"):
            self._local.decider = self._new()
        decider: Decider = self._local.decider
        return decider

    def _new(self) -> Decider:
        hot = ScorerStore(
            region=REGION,
            features="features",
            synchronous="synchronous",
            decisions="decisions",
            registry="registry",
            credentials=Credentials("local", "local", None),
        )
        with self._lock:
            store = CrashingStore(hot, random.Random(f"{self._seed}/{len(self.stores)}"), 0.0)
            self.stores.append(store)
            self._hot.append(hot)
        clock = SystemClock()
        decider = Decider(
            definitions=DEFINITIONS,
            store=store,
            champions=Champions(DEFINITIONS, lambda _sha, _timeout: self._data, clock, _complain),
            fallback_policy=policy(),
            regulation_profile=REGULATION_PROFILE,
            id_key=b"crashes",
            clock=clock,
            retention_days=90,
            retention=Retention(event_ids=20 * DAY),
        )
        decider.warm_up()
        store._probability = self._probability  # noqa: SLF001 - no crash during start
        return decider

    def close(self) -> None:
        for hot in self._hot:
            hot._client.close()  # noqa: SLF001 - a sandbox is frozen and thrown away


def _complain(sha: str, error: Exception) -> None:
    raise AssertionError(f"bundle {sha[:12]} must serve") from error


@contextmanager
def tables(folder: Path) -> Iterator[Any]:
    """Context manager: client of a private DynamoDB with the project's tables; sets its address in the environment."""
    engine = Dynoxide(folder / "tables.db", folder / "log")
    before = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
    os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = engine.url
    client = boto3.client(
        "dynamodb",
        endpoint_url=engine.url,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    try:
        for table in TABLES:
            client.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            )
        yield client
    finally:
        client.close()
        engine.close()
        if before is None:
            del os.environ["AWS_ENDPOINT_URL_DYNAMODB"]
        else:
            os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = before


def items(client: Any, table: str) -> dict[str, Mapping[str, Any]]:
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {item["pk"]["S"]: item for page in pages for item in page["Items"]}


def run(requests: int, threads: int, probability: float, folder: Path, seed: int = 1) -> CrashOutcome:
    """Decide all requests, then compare the tables with the answers."""
    planned = calls(requests, seed)
    bundle = train(DEFINITIONS, policy(), REASONS, {"request.amount": 100_000.0}, monotone=MONOTONE)
    with tables(folder) as client:
        champion = {"pk": {"S": "champion"}, "bundle": {"S": bundle.sha}, "promoted_at": {"N": "1"}}
        client.put_item(TableName="registry", Item=champion)
        scorers = Scorers(bundle, probability, seed)
        try:
            with ThreadPoolExecutor(threads) as pool:
                answers = list(pool.map(scorers.decide, planned))
        finally:
            scorers.close()
        outcome = check_answers(answers, items(client, "decisions"))
        counts = sum(_checkouts(item) for key, item in items(client, "synchronous").items() if _counted(key))
    if counts != outcome.keys:
        outcome.broken.append(f"{counts} checkouts are counted for {outcome.keys} keys")
    outcome.deaths = sum((store.deaths for store in scorers.stores), Counter[str]())
    return outcome


def check_answers(answers: Sequence[KeyAnswer], stored: Mapping[str, Mapping[str, Any]]) -> CrashOutcome:
    """Check that all answers of a key are the stored bytes of one decision."""
    outcome = CrashOutcome(requests=len(answers), replays=sum(answer.replayed for answer in answers))
    by_key: dict[str, list[KeyAnswer]] = defaultdict(list)
    for answer in answers:
        by_key[answer.key].append(answer)
    outcome.keys = len(by_key)
    for key, key_answers in by_key.items():
        bodies = {answer.body for answer in key_answers}
        if len(bodies) > 1 or sum(not answer.replayed for answer in key_answers) > 1:
            outcome.broken.append(f"{key}: {len(bodies)} different answers")
            continue
        item = stored.get(json.loads(key_answers[0].body)["id"])
        if item is None or item[layout.ANSWER]["B"] != key_answers[0].body:
            outcome.broken.append(f"{key}: the answer is not what is stored")
    if len(stored) != outcome.keys:
        outcome.broken.append(f"{len(stored)} decisions for {outcome.keys} keys")
    return outcome


def _counted(key: str) -> bool:
    return key.startswith(f"{COUNTED}@")


def _checkouts(item: Mapping[str, Any]) -> int:
    """Number of checkouts that the item counts within a day of its newest."""
    (view,) = (view for view in DEFINITIONS.views if view.name == COUNTED)
    state = ViewState.decode(view, item[layout.STATE]["B"])
    names = [feature.name for feature in view.features]
    return int(state.values(state.watermark + 1)[names.index(f"{COUNTED}.count.24h")])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--probability", type=float, default=0.05, help="of dying, at each place")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(options.requests, options.threads, options.probability, Path(folder), options.seed)
    print(
        f"requests={outcome.requests} threads={options.threads} keys={outcome.keys} replays={outcome.replays} "
        f"deaths={dict(outcome.deaths)} seconds={time.perf_counter() - started:.0f}"
    )
    for line in outcome.broken[:20]:
        print(f"broken: {line}", file=sys.stderr)
    print("every key has one decision" if not outcome.broken else f"broken={len(outcome.broken)}")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
