"""The deployed functions in the local system: a stale item becomes exact again without manual work."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candor.clock import DAY, HOUR, SystemClock
from candor.contracts import Event, encode_event
from candor.features.state import ViewState
from lender import DEFINITIONS
from local.system import LocalSystem

pytestmark = pytest.mark.system

REPAYMENTS = next(view for view in DEFINITIONS.views if view.name == "customer_repayments")
NOW = SystemClock().now_ms()
WAITS = ("ARCHIVE_LAG_S", "RETRY_S")


@pytest.fixture(scope="module")
def system(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """The synthesized app, with seconds in place of the minutes that a deployed archive takes."""
    hurried = tmp_path_factory.mktemp("hurried") / "cdk.out"
    shutil.copytree(assembly, hurried)
    [template] = hurried.glob("*-history.template.json")
    declared = json.loads(template.read_text("utf-8"))
    for resource in declared["Resources"].values():
        variables = resource.get("Properties", {}).get("Environment", {}).get("Variables", {})
        variables.update({name: "1" for name in WAITS if name in variables})
    template.write_text(json.dumps(declared), encoding="utf-8")
    with LocalSystem(hurried, tmp_path_factory.mktemp("state"), 0, say=lambda _: None) as system:
        yield system


def payment(number: int, **changes: Any) -> Event:
    data = {"loan_id": "l1", "amount": 100, "currency": "USD", "days_late": 900 if number == 5 else number}
    at = NOW - 60 * DAY + number * HOUR
    return Event(f"e{number}", "payment.succeeded", at, {"customer": "cus_1"}, data, **changes)


def publish(system: LocalSystem, *events: Event) -> None:
    bus = system.outputs["EventBusName"]
    entries = [
        {
            "Source": "candor.lender",
            "DetailType": "payment",
            "Detail": encode_event(each).decode(),
            "EventBusName": bus,
        }
        for each in events
    ]
    assert all("EventId" in result for result in system.publish(entries))
    system.drain(60)


def state(system: LocalSystem) -> ViewState:
    [key] = REPAYMENTS.item_keys("cus_1")
    table = system.outputs["FeaturesTableName"]
    item = system.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": key}}, ConsistentRead=True)
    return ViewState.decode(REPAYMENTS, bytes(item["Item"]["b"]["B"]))


def worst(system: LocalSystem) -> float:
    index = [feature.name for feature in REPAYMENTS.features].index(
        "customer_repayments.max_days_late.lifetime"
    )
    return state(system).values(SystemClock().now_ms())[index]


def test_a_voided_maximum_is_taken_back_by_the_platform_itself(system: LocalSystem) -> None:
    publish(system, *map(payment, range(80)))
    publish(system, payment(5, voided_at=NOW - DAY))
    assert (state(system).stale, worst(system)) == (True, 900.0)
    deadline = time.monotonic() + 90
    while state(system).stale and time.monotonic() < deadline:
        publish(system, payment(80 + int(time.monotonic()) % 10))  # the customer stays active
        system.flush()
        time.sleep(0.5)
        system.drain(60)
    assert not state(system).stale
    assert 79.0 <= worst(system) < 90.0
    queues = [system.queue(system.outputs[name]) for name in ("StaleItemsUrl", "StaleItemsDlqUrl")]
    system.drain(60)
    assert [len(queue) for queue in queues][1] == 0


def test_the_indexer_runs_as_it_is_deployed(system: LocalSystem) -> None:
    [function] = [name for name in system.functions() if "IndexArchive" in name]
    answer = system.client("lambda").invoke(FunctionName=function, Payload=b'{"whole": true}')
    results = json.loads(answer["Payload"].read())
    assert {kind: each["finished"] for kind, each in results.items()} == {"commits": True, "events": True}
