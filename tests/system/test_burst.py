"""Fifty checkouts at once for one customer, through the running system: the exposure limit holds.

`BURSTS=20 pytest tests/system/test_burst.py` fires twenty bursts instead of three, each for another customer.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.load import CheckoutAnswer, CheckoutCall, check_answers, compare, post_all
from candor.clock import DAY, SystemClock
from candor.edge.bus import SOURCE
from candor.features.state import ViewState
from candor.model.bundle import Bundle
from demo.sources.base import make_event
from demo.sources.folder import from_folder
from lender import DEFINITIONS
from tests.builders import only_key
from tests.system.conftest import Served

BURSTS = int(os.environ.get("BURSTS", "3"))
AT_ONCE = 50
REPEATED = 14
OWED, AMOUNT, EXPOSURE_LIMIT = 4_000_000, 3_000_000, 15_000_000
"""Kobo: the customer's debt, the amount of each checkout, and the exposure limit of the lender's table in NGN."""

CHECKOUTS_A_DAY = 6
VIEWS = {view.name: view for view in DEFINITIONS.views}


@pytest.fixture(scope="module", autouse=True)
def _lenient(served: Served) -> Iterator[None]:
    """A champion that declines nobody: the trained one does, years after its data, so limits would go untested."""
    account = served.account
    s3, tables = account.client("s3"), account.client("dynamodb")
    (bucket,) = (b["Name"] for b in s3.list_buckets()["Buckets"] if "bundles" in b["Name"])
    (registry,) = (name for name in tables.list_tables()["TableNames"] if "registry" in name.lower())

    def point_at(sha: str) -> None:
        tables.update_item(
            TableName=registry,
            Key={"pk": {"S": "champion"}},
            UpdateExpression="SET bundle = :sha",
            ExpressionAttributeValues={":sha": {"S": sha}},
        )

    (pointer,) = (item for item in account.items("registry") if item["pk"]["S"] == "champion")
    sha = pointer["bundle"]["S"]
    file = s3.get_object(Bucket=bucket, Key=f"bundles/{sha}.json")["Body"].read()
    lenient = replace(Bundle.from_bytes(file, sha), cutoff=0.999)
    s3.put_object(Bucket=bucket, Key=f"bundles/{lenient.sha}.json", Body=lenient.to_bytes())
    point_at(lenient.sha)
    yield
    point_at(sha)


def lend(served: Served, token: str) -> None:
    """Publish an open loan as the lender's services do, and wait until the customer's features contain it."""
    events = served.account.client("events")
    (bus,) = (b["Name"] for b in events.list_event_buses()["EventBuses"] if b["Name"] != "default")
    now = SystemClock().now_ms()
    data = {
        "checkout_id": f"chk_{token}",
        "loan_id": f"loan_{token}",
        "amount": OWED,
        "currency": "NGN",
        "first_due_at": now + 30 * DAY,
        "final_due_at": now + 30 * DAY,
    }
    event = make_event(f"evt_{token}", "loan.originated", now, {"customer": token}, data)
    detail = json.dumps(event)
    entry = {"EventBusName": bus, "Source": SOURCE, "DetailType": event["type"], "Detail": detail}
    assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0
    key = only_key(VIEWS["customer_loans"], token)
    served.running.until(lambda: key in {item["pk"]["S"] for item in served.account.items("features")}, key)


def calls_of(served: Served, token: str) -> list[CheckoutCall]:
    """Checkouts with a key each, some of them repeated, in random order."""
    posted = next(iter(from_folder(served.data).checkouts())).body
    items = [{"sku": "cash", "category": "cash", "unit_price": AMOUNT, "qty": 1}]
    calls = []
    for number in range(AT_ONCE):
        body = {
            **posted,
            "checkout_id": f"{token}-{number}",
            "applicant": {"token": token},
            "total": AMOUNT,
            "items": items,
        }
        calls.append(CheckoutCall(f"{token}-{number}", json.dumps(body).encode()))
    mixed = calls + calls[:REPEATED]
    random.Random(token).shuffle(mixed)
    return mixed


def stored(served: Served) -> dict[str, bytes]:
    return {item["pk"]["S"]: bytes(item["a"]["B"]) for item in served.account.items("decisions")}


def records_of(served: Served, answers: list[CheckoutAnswer]) -> list[dict[str, Any]]:
    """Records of the answers' decisions, by moment."""
    ids = {json.loads(answer.body)["id"] for answer in answers}
    items = {item["pk"]["S"]: bytes(item["r"]["B"]) for item in served.account.items("decisions")}
    return sorted((json.loads(items[each]) for each in ids), key=lambda record: record["q"])


def seen(record: dict[str, Any], feature: str) -> float:
    value: float = record["vector"]["values"][DEFINITIONS.features.index(feature)]
    return value


def counted(served: Served, token: str, q: int) -> dict[str, float]:
    """Values of a customer's synchronous items at a moment, by feature."""
    items = {
        item["pk"]["S"]: bytes(item["b"]["B"]) for item in served.account.items("synchronous") if "b" in item
    }
    features = {}
    for name in ("customer_checkouts", "customer_approvals"):
        state = ViewState.decode(VIEWS[name], items[only_key(VIEWS[name], token)])
        features |= dict(zip((f.name for f in VIEWS[name].features), state.values(q), strict=True))
    return features


@pytest.mark.parametrize("turn", range(BURSTS))
def test_of_fifty_at_once_nothing_is_granted_past_the_limit(served: Served, turn: int) -> None:
    token = f"burst-{turn}-{os.urandom(4).hex()}"
    lend(served, token)
    calls, before = calls_of(served, token), stored(served)
    answers = post_all(served.running.door, calls, len(calls), patient=True)

    verdict = check_answers(answers)
    assert verdict.broken == []
    assert Counter(answer.status for answer in answers) == {200: AT_ONCE + REPEATED}
    assert {status for answer in answers for status in answer.refused} <= {503}
    assert list(compare(verdict, before, stored(served))) == []

    records = records_of(served, answers)
    assert len(records) == AT_ONCE
    bodies = {json.loads(answer.body)["id"]: json.loads(answer.body) for answer in answers}
    granted = sum(body["approved_amount_max"] for body in bodies.values())
    assert OWED + granted <= EXPOSURE_LIMIT
    assert OWED + granted + AMOUNT > EXPOSURE_LIMIT, "one more would not have fitted: the limit was reached"
    assert granted == AMOUNT * sum(record["outcome"] == "approved" for record in records)

    assert [seen(record, "customer_checkouts.count.24h") for record in records] == list(range(AT_ONCE))
    fast = ["checkout_velocity" in record["rules"] for record in records]
    assert fast == [index >= CHECKOUTS_A_DAY for index in range(AT_ONCE)]
    over = ["exposure_limit_ngn" in record["rules"] for record in records]
    assert over == [seen(record, "request.exposure") > EXPOSURE_LIMIT for record in records]
    known = counted(served, token, records[-1]["q"] + 1)
    assert (known["customer_checkouts.count.24h"], known["customer_approvals.amount.1h"]) == (
        AT_ONCE,
        granted,
    )
    assert not any(record["degraded"] for record in records)
