"""GET of a stored decision: the merchant's own answer, and the whole record for the lender."""

from __future__ import annotations

import json
from typing import Any

import boto3
import msgspec
import pytest
from moto import mock_aws

from candor.champion import Champions
from candor.clock import DAY, Deadline, FixedClock
from candor.contracts import Application, parse_checkout
from candor.decide import Attempt, Decider
from candor.edge.openapi import DecisionBody, DecisionRecordBody
from candor.store.dynamodb import DecisionReader
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import StoredDecision
from candor.updates import Retention
from lender import DEFINITIONS, REGULATION_PROFILE, policy
from tests.handlers.checkouts import checkout
from tests.handlers.lambdas import Ears, context, create_table, load, problem

TABLE = "decisions-show"
MERCHANT = {"merchant_id": "mer_1", "livemode": "true"}
OTHERS = {
    "another merchant": {"merchant_id": "mer_2", "livemode": "true"},
    "a test key": {"merchant_id": "mer_1", "livemode": "false"},
}


@pytest.fixture(scope="module")
def stored() -> StoredDecision:
    """A decision of the lender that is deployed, as its decider writes it."""
    store = MemoryDecisionStore(MemoryFeatureStore())
    clock = FixedClock(1_795_000_000_000)
    decider = Decider(
        definitions=DEFINITIONS,
        store=store,
        champions=Champions(DEFINITIONS, lambda _sha, _timeout: b"", clock, lambda _sha, _error: None),
        fallback_policy=policy(),
        regulation_profile=REGULATION_PROFILE,
        id_key=b"k",
        clock=clock,
        retention_days=90,
        retention=Retention(event_ids=20 * DAY),
    )
    application = Application(parse_checkout(json.dumps(checkout()).encode()), "mer_1", livemode=True)
    decider.decide(Attempt(application, "key"), Deadline(5))
    (stored,) = store.decisions.values()
    return stored


@pytest.fixture(scope="module")
def modules(stored) -> Any:
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        create_table(TABLE)
        boto3.client("dynamodb").put_item(TableName=TABLE, Item=item_of(stored))
        names = ("show_decision", "show_record")
        yield {name: load(name, monkeypatch, {"DECISIONS_TABLE": TABLE}) for name in names}


def item_of(stored: StoredDecision, **changes: Any) -> dict[str, Any]:
    return {
        "pk": {"S": stored.id},
        "m": {"S": stored.merchant_id},
        "f": {"S": stored.fingerprint},
        "r": {"B": stored.record},
        "a": {"B": stored.answer},
        "q": {"N": str(stored.q)},
        "ttl": {"N": str(stored.expires_at)},
    } | changes


@pytest.fixture
def ask(modules) -> Any:
    def send(name: str, decision_id: str | None, authorizer: Any = MERCHANT, **headers: str) -> Any:
        event = {
            "resource": "/any/{id}",
            "httpMethod": "GET",
            "headers": headers,
            "pathParameters": None if decision_id is None else {"id": decision_id},
            "body": None,
            "requestContext": {
                "requestId": "req_test",
                "authorizer": authorizer,
                "identity": {"userArn": "arn:aws:iam::123456789012:role/credit"},
            },
        }
        return modules[name].handler(event, context(name))

    return send


def test_a_merchant_is_answered_with_the_same_bytes_again(ask, stored):
    answer = ask("show_decision", stored.id)
    assert (answer["statusCode"], answer["body"].encode()) == (200, stored.answer)
    assert answer["headers"] == {"Content-Type": "application/json", "Api-Version": "2026-11-01"}
    assert msgspec.json.decode(answer["body"], type=DecisionBody).outcome == "approved"


@pytest.mark.parametrize("authorizer", OTHERS.values(), ids=OTHERS)
def test_nobody_else_learns_that_there_is_such_a_decision(ask, stored, authorizer):
    theirs, nobodys = (
        ask("show_decision", decision_id, authorizer) for decision_id in (stored.id, "dec_" + "a" * 26)
    )
    assert problem(theirs) == (404, "decision_not_found", "id")
    assert theirs == nobodys


@pytest.mark.parametrize("name", ["show_decision", "show_record"])
@pytest.mark.parametrize("decision_id", [None, "", "dec_1", "dec_" + "A" * 26, "x" * 5_000, "dec_\n", "é"])
def test_what_is_no_id_is_not_found(ask, name, decision_id):
    assert problem(ask(name, decision_id)) == (404, "decision_not_found", "id")


def test_a_merchant_without_a_key_is_401(ask, stored):
    assert problem(ask("show_decision", stored.id, {})) == (401, "unauthorized", None)


def test_a_version_that_is_not_spoken_is_refused(ask, stored):
    refused = ask("show_decision", stored.id, **{"api-version": "2020-01-01"})
    assert problem(refused) == (400, "unknown_api_version", "Api-Version")
    assert ask("show_decision", stored.id, **{"api-version": "2026-11-01"})["statusCode"] == 200


def test_the_lender_sees_everything_that_is_kept(ask, stored):
    body = json.loads(ask("show_record", stored.id, {})["body"])
    record = json.loads(stored.record)
    assert body.keys() == {"id", "object", "features", "answer", "record"}
    assert (body["id"], body["object"]) == (stored.id, "decision_record")
    msgspec.convert(body, DecisionRecordBody)
    assert body["answer"] == json.loads(stored.answer)
    assert body["record"] == record
    assert list(body["features"]) == list(DEFINITIONS.features)
    assert list(body["features"].values()) == record["vector"]["values"]
    assert body["features"]["request.amount"] == 4_000.0


def test_features_have_no_names_where_their_declarations_are_not_kept(modules, ask, stored):
    record = json.loads(stored.record) | {"definition_hash": "0" * 64}
    older = item_of(stored, pk={"S": "dec_" + "b" * 26}, r={"B": json.dumps(record).encode()})
    boto3.client("dynamodb").put_item(TableName=TABLE, Item=older)
    body = json.loads(ask("show_record", "dec_" + "b" * 26)["body"])
    assert (body["features"], body["record"]["vector"]["values"]) == (None, record["vector"]["values"])


@pytest.mark.parametrize("name", ["show_decision", "show_record"])
def test_a_table_that_is_away_is_503(modules, ask, stored, name, monkeypatch):
    monkeypatch.setattr(modules[name], "DECISIONS", DecisionReader("gone"))
    answer = ask(name, stored.id)
    assert problem(answer) == (503, "unavailable", None)
    assert answer["headers"]["Retry-After"] == "1"


def test_a_record_of_another_shape_is_503(modules, ask, stored):
    broken = item_of(stored, pk={"S": "dec_" + "c" * 26}, r={"B": b"{}"})
    boto3.client("dynamodb").put_item(TableName=TABLE, Item=broken)
    assert problem(ask("show_record", "dec_" + "c" * 26)) == (503, "unavailable", None)


def test_the_log_says_who_asked_and_nothing_of_what_was_found(
    modules, ask, stored, monkeypatch, capsys, caplog
):
    ears = Ears(modules["show_record"], monkeypatch, capsys, caplog)
    ask("show_record", stored.id)
    heard = ears.heard()
    assert "role/credit" in heard
    assert not [word for word in ("cus_1", "dev_1", "chk_1", stored.fingerprint) if word in heard]
