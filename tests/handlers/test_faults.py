"""The fault table through the deployed handler: one row per fault, with the guaranteed behaviour.

`docs/reference/faults.md` shows this table; `python -m tests.handlers.test_faults` writes it there.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from candor.model.bundle import Bundle
from lender import DEFINITIONS, MONOTONE, REASONS, policy
from tests.handlers.between import Between, hung_up, lost, refused, silent, slow, unprocessed
from tests.handlers.checkouts import checkout
from tests.handlers.lambdas import problem
from tests.handlers.scoring import Scorer, point_at, recorded, standing, store_bundle
from tests.trained import train

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/faults.md"
DEADLINE_S = 3.0
AMOUNT = 20_000
"""US cents: approved when all is well, more than anybody gets unseen."""

METRICS = ("Decisions", "Approved", "Degraded", "Problems", "Unwritable", "BundlesFailed")
THROTTLED = refused("ProvisionedThroughputExceededException")
BROKEN = refused("InternalServerError", 500)
WRITE = "TransactWriteItems"
FALLBACK = "none"


@dataclass
class World:
    """The proxy between a scorer and its dependencies, and the champion."""

    between: Between
    champion: Bundle
    customer: str


@dataclass(frozen=True)
class Row:
    """A fault and the guaranteed behaviour: outcome (None: no decision), unavailable views, deciding bundle.

    `cold` starts a sandbox into the fault. `again` is what the same key gets once the fault is over.
    """

    fault: str
    arrange: Callable[[World], None]
    outcome: str | None = "approved"
    unavailable: str = "no view"
    bundle: str = "champion"
    metrics: Mapping[str, int] = field(default_factory=lambda: {"Decisions": 1, "Approved": 1})
    cold: bool = False
    again: str = "the stored decision"

    @property
    def degraded(self) -> bool:
        return self.metrics.get("Degraded") == 1

    def line(self) -> list[str]:
        """The row as the page shows it."""
        answer = f"200 `{self.outcome}`" if self.outcome else "503 `unavailable`, `Retry-After: 1`"
        state = (
            f"unavailable: {self.unavailable}; bundle: {self.bundle}" if self.outcome else "nothing is stored"
        )
        if self.again.startswith("the stored decision, lost"):
            state = "the decision, whole"
        metrics = ", ".join(f"`{name}`" for name in METRICS if self.metrics.get(name))
        return [self.fault, answer, state, metrics, self.again]


UNDECIDED: dict[str, Any] = {
    "outcome": None,
    "metrics": {"Problems": 1, "Unwritable": 1},
    "again": "a decision",
}
BLIND: dict[str, Any] = {
    "outcome": "action_required",
    "unavailable": "all views",
    "metrics": {"Decisions": 1, "Degraded": 1},
}
UNSERVED = {"Decisions": 1, "Degraded": 1, "BundlesFailed": 1}


def fails(operation: str, fault: Any, times: float = float("inf")) -> Callable[[World], None]:
    return lambda world: world.between.fail(operation, fault, times)


def corrupt_item(world: World) -> None:
    (view,) = (view for view in DEFINITIONS.views if view.name == "customer_failures")
    (key,) = view.item_keys(world.customer)
    item = {"pk": {"S": key}, "b": {"B": b"\x00garbage"}, "vb": {"N": "1"}, "vn": {"N": "1"}}
    boto3.client("dynamodb").put_item(TableName="features", Item=item)


def no_pointer(_world: World) -> None:
    boto3.client("dynamodb").delete_item(TableName="registry", Key={"pk": {"S": "champion"}})


def corrupt_bundle(world: World) -> None:
    """The right bundle's bytes under another name: a byte of it must have changed on the way."""
    store_bundle("1" * 64, world.champion.to_bytes())
    point_at("1" * 64)


def slow_bundle(world: World) -> None:
    """Another champion, whose bytes come too slowly."""
    store_bundle("2" * 64, world.champion.to_bytes())
    point_at("2" * 64)
    world.between.fail("GetObject", slow)


def absent_bundle(_world: World) -> None:
    point_at("3" * 64)


def refuse_all(world: World) -> None:
    for operation in ("BatchGetItem", "PutItem", WRITE):
        world.between.fail(operation, hung_up)


def nothing(_world: World) -> None:
    """A customer without events is not a fault."""


ROWS = (
    Row("the customer was never seen", nothing),
    Row("the read is not answered", fails("BatchGetItem", silent), **BLIND),
    Row("the read's connection is closed", fails("BatchGetItem", hung_up), **BLIND),
    Row("the read is throttled once", fails("BatchGetItem", THROTTLED, 1)),
    Row("the read is throttled", fails("BatchGetItem", THROTTLED), **BLIND),
    Row("the read fails inside the store", fails("BatchGetItem", BROKEN), **BLIND),
    Row(
        "keys come back unprocessed, three times",
        fails("BatchGetItem", unprocessed("features")),
        **{**BLIND, "unavailable": "views of those keys"},
    ),
    Row(
        "keys come back unprocessed, once",
        fails("BatchGetItem", unprocessed("features"), 1),
    ),
    Row(
        "keys of synchronous views come back unprocessed",
        fails("BatchGetItem", unprocessed("synchronous")),
        **{**BLIND, "unavailable": "views of those keys"},
    ),
    Row("an item is corrupt", corrupt_item, **{**BLIND, "unavailable": "its view"}),
    Row("the pointer is missing", no_pointer, bundle="the one before"),
    Row(
        "the pointer is missing at a start",
        no_pointer,
        outcome="action_required",
        bundle=FALLBACK,
        metrics={"Decisions": 1, "Degraded": 1},
        cold=True,
    ),
    Row(
        "the new champion's bundle is corrupt",
        corrupt_bundle,
        bundle="the one before",
        metrics={"Decisions": 1, "Approved": 1, "BundlesFailed": 1},
    ),
    Row(
        "the champion's bundle is corrupt at a start",
        corrupt_bundle,
        outcome="action_required",
        bundle=FALLBACK,
        metrics=UNSERVED,
        cold=True,
    ),
    Row(
        "the new champion's bundle is not there",
        absent_bundle,
        bundle="the one before",
        metrics={"Decisions": 1, "Approved": 1, "BundlesFailed": 1},
    ),
    Row(
        "the new champion's bundle comes too slowly",
        slow_bundle,
        bundle="the one before",
        metrics={"Decisions": 1, "Approved": 1, "BundlesFailed": 1},
    ),
    Row("the write is throttled once", fails(WRITE, THROTTLED, 1)),
    Row("the write is throttled", fails(WRITE, THROTTLED), **UNDECIDED),
    Row("the write fails inside the store", fails(WRITE, BROKEN), **UNDECIDED),
    Row("the write is not answered, and not done", fails(WRITE, silent), **UNDECIDED),
    Row("the store is away", refuse_all, **UNDECIDED),
    Row("the store is away at a start", refuse_all, cold=True, **UNDECIDED),
    Row(
        "the key that names decisions cannot be read at a start",
        fails("GetSecretValue", hung_up),
        cold=True,
        **UNDECIDED,
    ),
    Row("the write's answer is lost once", fails(WRITE, lost, 1)),
    Row(
        "the write's answer is lost, and that of every repetition",
        fails(WRITE, lost),
        **{**UNDECIDED, "again": "the stored decision, lost before"},
    ),
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train(DEFINITIONS, policy(), REASONS, {"request.amount": 100_000.0}, monotone=MONOTONE)


@pytest.fixture(scope="module")
def surroundings(bundle: Bundle) -> Iterator[tuple[Between, dict[str, str]]]:
    with standing(bundle) as (url, environment), pytest.MonkeyPatch.context() as monkeypatch:
        between = Between(url)
        for service in ("DYNAMODB", "S3", "SECRETSMANAGER"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", between.url)
        yield between, environment
        between.end()


@pytest.fixture
def scorer(surroundings, bundle) -> Iterator[Scorer]:
    between, environment = surroundings
    scorer = Scorer(environment, DEADLINE_MS=str(int(DEADLINE_S * 1_000)))
    yield scorer
    between.mend()
    point_at(bundle.sha)
    scorer.close()


def decisions() -> dict[str, Any]:
    items = boto3.client("dynamodb").scan(TableName="decisions", ConsistentRead=True)["Items"]
    return {item["pk"]["S"]: item for item in items}


def counted(said: str) -> Counter[str]:
    """The metrics of all lines, summed."""
    sums: Counter[str] = Counter()
    for line in map(json.loads, said.splitlines()):
        sums.update({name: int(line.get(name, 0)) for name in METRICS})
    return +sums


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_every_fault_has_its_answer_state_and_metrics(row, scorer, surroundings, bundle, capsys):
    between, _ = surroundings
    name = re.sub(r"\W+", "-", row.fault)
    if not row.cold:
        assert scorer(key=f"before {name}")["statusCode"] == 200
    body = checkout(AMOUNT, token=f"cus {name}")
    row.arrange(World(between, bundle, f"cus {name}"))
    stored = decisions()
    capsys.readouterr()
    started = time.monotonic()
    answer = scorer(body, key=name)
    # A sandbox that starts may wait for its champion before the request's own time begins.
    assert time.monotonic() - started < DEADLINE_S + (6.0 if row.cold else 2.0)
    assert counted(capsys.readouterr().out) == Counter(row.metrics)
    new = decisions().keys() - stored.keys()
    between.mend()
    if row.outcome is None:
        assert problem(answer) == (503, "unavailable", None)
        assert answer["headers"]["Retry-After"] == "1"
        assert len(new) == row.again.startswith("the stored decision")
    else:
        assert (answer["statusCode"], json.loads(answer["body"])["outcome"]) == (200, row.outcome)
        check_record(row, recorded(answer), bundle)
        assert new == {json.loads(answer["body"])["id"]}
    check_again(row, answer, scorer(body, key=name), new)


def check_record(row: Row, record: dict[str, Any], bundle: Bundle) -> None:
    states = record["vector"]["states"]
    gone = {view for view, state in states.items() if state == "unavailable"}
    synchronous = {view.name for view in DEFINITIONS.views if view.synchronous}
    expected = {
        "no view": set(),
        "all views": set(states),
        "its view": {"customer_failures"},
        "views of those keys": synchronous & set(states)
        if "synchronous" in row.fault
        else set(states) - synchronous,
    }[row.unavailable]
    assert set(states) == {view.name for view in DEFINITIONS.views}
    assert gone == expected
    assert record["degraded"] is row.degraded
    assert record["bundle"] == (None if row.bundle == FALLBACK else bundle.sha)


def check_again(row: Row, first: Any, again: Any, stored: set[str]) -> None:
    """The same key once the fault is over: what is stored, byte for byte, or now a decision."""
    assert again["statusCode"] == 200
    replayed = again["headers"].get("Idempotent-Replayed") == "true"
    assert replayed is row.again.startswith("the stored decision")
    if row.outcome is not None:
        assert again["body"] == first["body"]
    elif replayed:
        assert {json.loads(again["body"])["id"]} == stored
    recorded(again)


def table() -> str:
    head = ["what fails", "answer", "what the record says", "metrics that count", "the same key again"]
    rows = [head, ["---"] * len(head), *(row.line() for row in ROWS)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_page_shows_this_table():
    assert table() in PAGE.read_text("utf-8"), "run python -m tests.handlers.test_faults"


if __name__ == "__main__":
    page = PAGE.read_text("utf-8")
    marks = re.compile(r"(<!-- faults -->\n).*?(<!-- /faults -->)", re.DOTALL)
    PAGE.write_text(marks.sub(lambda match: f"{match[1]}{table()}\n{match[2]}", page), encoding="utf-8")
