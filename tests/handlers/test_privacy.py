"""A canary in every field that a caller fills appears in no log line, metric, dead-letter attribute or problem."""

from __future__ import annotations

import copy
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from moto import mock_aws

from candor.champion import Champions
from candor.clock import DAY, Deadline, FixedClock
from candor.contracts import Application, Checkout, EventBody, parse_checkout
from candor.decide import Attempt, Decider
from candor.model.bundle import Bundle
from candor.registry.artifacts import keep_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration, RegistryItem
from candor.store.dynamodb import DecisionReader, bound
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import StoredDecision
from candor.updates import Retention
from lender import DEFINITIONS, MONOTONE, REASONS, REGULATION_PROFILE, policy
from tests.handlers.archived import create_stream, refusing
from tests.handlers.checkouts import planted
from tests.handlers.lambdas import Ears, context, create_table, drain, load
from tests.handlers.lending import BAD_EVENTS, CANARY, canary_payment, envelope
from tests.handlers.scoring import Scorer, standing
from tests.trained import train

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ("Authorization", "User-Agent", "X-Forwarded-For", "Cookie", "X-Any", CANARY)
FORMED = {"country", "currency", "email_sha256", "occurred_at", "product"}
"""Texts of a fixed format or a declared list, which cannot hold the canary unless they are invalid."""


def whole() -> dict[str, Any]:
    """A valid checkout with all fields, and the canary in every free text."""
    body = planted()
    body["applicant"] |= {"email_sha256": "0" * 64, "shipping_matches_billing": True}
    body["offer"]["finance_charge"] = 0
    body["device"]["session_age_s"] = 1
    return body | {
        "tax_amount": 0,
        "shipping_amount": 0,
        "discount_amount": 0,
        "occurred_at": "2026-01-01T00:00:00Z",
    }


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, value) of everything that is no object and no list."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, (*path, name))
    elif isinstance(value, list):
        for place, member in enumerate(value):
            yield from leaves(member, (*path, place))
    else:
        yield path, value


def with_leaf(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    holder: Any = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return changed


def missing(kind: type[msgspec.Struct], body: dict[str, Any]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)} - body.keys()


def test_every_field_of_the_contracts_is_planted():
    body, event = whole(), canary_payment(voided_at="2026-01-01T00:00:00Z")
    assert missing(Checkout, body) == missing(EventBody, event) == set()
    for name in ("applicant", "offer", "device"):
        kind = next(field.type for field in msgspec.structs.fields(Checkout) if field.name == name)
        struct = next((member for member in getattr(kind, "__args__", ()) if member is not type(None)), kind)
        assert missing(struct, body[name]) == set()
    texts = {path[-1]: value for path, value in leaves(body) if isinstance(value, str)}
    assert {name for name, value in texts.items() if value != CANARY} == FORMED
    parse_checkout(json.dumps(body).encode())


# The scorer


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train(DEFINITIONS, policy(), REASONS, {"request.amount": 100_000.0}, monotone=MONOTONE)


@pytest.fixture(scope="module")
def scorer(bundle: Bundle) -> Iterator[Scorer]:
    with standing(bundle) as (_, environment):
        scorer = Scorer(environment, REPLAY_CLOCK="allowed")
        yield scorer
        scorer.close()


@pytest.fixture
def ears(scorer, monkeypatch, capsys, caplog) -> Ears:
    return Ears(scorer.module, monkeypatch, capsys, caplog)


STRANGE = {"too long": CANARY * 100, "a list": [CANARY], "an object": {CANARY: CANARY}, "a number": 10**13}


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
def test_no_place_of_a_refused_checkout_is_told(scorer, ears, value):
    for path, _ in leaves(whole()):
        answer = scorer(with_leaf(whole(), path, value), key=CANARY)
        assert answer["statusCode"] == 422, path
        assert CANARY not in answer["body"], path
    heard = ears.heard()
    assert heard.count('"Problems":1,') == len(list(leaves(whole())))
    assert CANARY not in heard


def test_no_place_of_a_decided_checkout_is_told(scorer, ears):
    headers = dict.fromkeys(HEADERS, CANARY)
    for total, amount in (("approved", 4_000), ("declined", 90_000), ("limit", 150_000)):
        body = whole() | {"total": amount}
        body["items"][0]["unit_price"] = amount
        for _ in range(2):
            answer = scorer(body, key=f"{CANARY} {total}", **headers)
            assert answer["statusCode"] == 200
    heard = ears.heard()
    assert heard.count('"Decisions":1,') == 3
    assert CANARY not in heard


@pytest.mark.parametrize("header", ["Idempotency-Key", "Api-Version", "Candor-Replay-At"])
def test_no_refused_header_is_told(scorer, ears, header):
    answer = scorer(whole(), key=None, **{"Idempotency-Key": CANARY, header: CANARY * 100})
    assert answer["statusCode"] == 400
    assert CANARY not in answer["body"] + ears.heard()


def test_no_refused_content_type_is_told(scorer, ears):
    answer = scorer(whole(), key=CANARY, **{"Content-Type": CANARY})
    assert answer["statusCode"] == 415
    assert CANARY not in json.dumps(answer) + ears.heard()


# Everybody else, on moto


@pytest.fixture(scope="module")
def stored() -> StoredDecision:
    """A decision with the canary in checkout and merchant."""
    store, clock = MemoryDecisionStore(MemoryFeatureStore()), FixedClock(1_795_000_000_000)
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
    application = Application(parse_checkout(json.dumps(whole()).encode()), CANARY, livemode=True)
    decider.decide(Attempt(application, CANARY), Deadline(5))
    (stored,) = store.decisions.values()
    return stored


@pytest.fixture(scope="module")
def modules(bundle: Bundle) -> Iterator[dict[str, Any]]:
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        for table in ("features", "synchronous", "decisions"):
            create_table(table)
        bound(RegistryItem, "registry").create_table(wait=True)
        for stream in ("commits", "told", "shadows"):
            create_stream(stream) if stream == "commits" else _another(stream)
        boto3.client("events").create_event_bus(Name="bus")
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bundles")
        keep_bundle(s3, "bundles", bundle.sha, bundle.to_bytes())
        registry = Registry("registry")
        registry.register(Registration(bundle.sha, "candidate", {}, "run", 1))
        registry.shadow([bundle.sha])
        queue = boto3.client("sqs").create_queue(QueueName="dlq")["QueueUrl"]
        stale = boto3.client("sqs").create_queue(QueueName="stale")["QueueUrl"]
        environments: dict[str, dict[str, str]] = {
            "log_commits": {"COMMITS_STREAM": "commits", "STREAMS_DLQ_URL": queue},
            "publish_decisions": {
                "DECISIONS_STREAM": "told", "STREAMS_DLQ_URL": queue, "EVENT_BUS_NAME": "bus",
            },
            "score_shadows": {
                "SHADOWS_STREAM": "shadows", "STREAMS_DLQ_URL": queue, "BUNDLES_BUCKET": "bundles",
                "REGISTRY_TABLE": "registry",
            },
            "publish_events": {"EVENT_BUS_NAME": "bus"},
            "update_features": {
                "FEATURES_TABLE": "features", "SYNCHRONOUS_TABLE": "synchronous", "EVENTS_DLQ_URL": queue, "EVENTS_QUEUE_URL": queue,
                "STALE_ITEMS_URL": stale, "REDELIVERY_HORIZON_DAYS": "19",
            },
            "show_decision": {"DECISIONS_TABLE": "decisions"},
            "show_record": {"DECISIONS_TABLE": "decisions"},
        }  # fmt: skip
        yield {name: load(name, monkeypatch, given) for name, given in environments.items()} | {"dlq": queue}


def _another(stream: str) -> None:
    """A second delivery stream into the bucket that is there."""
    boto3.client("firehose").create_delivery_stream(
        DeliveryStreamName=stream,
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/firehose",
            "BucketARN": "arn:aws:s3:::archive-test",
            "Prefix": f"{stream}/",
        },
    )


def change(image: dict[str, Any], key: str) -> dict[str, Any]:
    dynamodb = {"NewImage": {"pk": {"S": key}, **image}, "Keys": {"pk": {"S": key}}, "SequenceNumber": "1"}
    return {"eventName": "INSERT", "eventSourceARN": "arn", "dynamodb": dynamodb}


def binary(data: bytes) -> dict[str, str]:
    return {"B": b64encode(data).decode()}


def decision_changes(stored: StoredDecision) -> list[dict[str, Any]]:
    """A decision with the canary, and unreadable records."""
    strange = (b"{}", CANARY.encode(), json.dumps({"id": CANARY, "vector": CANARY}).encode())
    return [
        change({"q": {"N": "1"}, "r": binary(record)}, f"dec_{place}")
        for place, record in enumerate((stored.record, *strange))
    ] + [change({"r": {"S": CANARY}}, "dec_9")]


def commit_changes() -> list[dict[str, Any]]:
    key = f"customer_failures@1#{CANARY}"
    good = {
        "vb": {"N": "1"}, "vn": {"N": "1"}, "u": {"N": "1"}, "ids": binary(json.dumps([CANARY]).encode()),
    }  # fmt: skip
    return [
        change(good, key),
        change(good | {"ids": {"S": CANARY}}, key),
        change(good | {"ids": binary(CANARY.encode())}, key),
        change(good | {"u": {"N": CANARY}}, key),
        change({"vn": {"N": "1"}, CANARY: {"S": CANARY}}, key),
    ]


def silent_about(module: Any, modules: dict[str, Any], said: str) -> None:
    """Neither output nor dead letters' attributes contain the canary."""
    assert CANARY not in said
    for message in drain(modules["dlq"]):
        assert CANARY not in json.dumps(message["MessageAttributes"])


@pytest.mark.parametrize("name", ["publish_decisions", "score_shadows", "log_commits"])
@pytest.mark.parametrize("away", [False, True], ids=["all is well", "the archive refuses"])
def test_the_streams_workers_say_nothing_of_what_they_carry(
    modules, stored, name, away, monkeypatch, capsys, caplog
):
    module = modules[name]
    ears = Ears(module, monkeypatch, capsys, caplog)
    if away:
        refusing(module.FIREHOSE, monkeypatch, times=99)
    records = commit_changes() if name == "log_commits" else decision_changes(stored)
    module.handler({"Records": records}, context(name))
    heard = ears.heard()
    assert "Records" in heard
    silent_about(module, modules, heard)


def test_the_updater_says_nothing_and_a_letters_attributes_neither(modules, monkeypatch, capsys, caplog):
    module = modules["update_features"]
    ears = Ears(module, monkeypatch, capsys, caplog)
    bad = [envelope(event) for event, _ in BAD_EVENTS.values()]
    records = [
        {"messageId": f"m{place}", "body": body}
        for place, body in enumerate([envelope(canary_payment()), *bad, CANARY])
    ]
    module.handler({"Records": records}, context("update_features"))
    letters = drain(modules["dlq"])
    assert len(letters) == len(bad) + 1
    assert not [message for message in letters if CANARY in json.dumps(message["MessageAttributes"])]
    assert CANARY not in ears.heard()


def request(body: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "resource": "/any",
        "path": f"/{CANARY}",
        "httpMethod": "GET",
        "headers": dict.fromkeys(HEADERS, CANARY),
        "queryStringParameters": {CANARY: CANARY},
        "body": body,
        "requestContext": {"requestId": "req_test", "path": f"/{CANARY}", "identity": {"userAgent": CANARY}},
    } | more


def test_the_publisher_of_events_says_nothing(modules, monkeypatch, capsys, caplog):
    module = modules["publish_events"]
    ears = Ears(module, monkeypatch, capsys, caplog)
    for event in (canary_payment(), *(event for event, _ in BAD_EVENTS.values())):
        answer = module.handler(request(json.dumps({"events": [event]})), context("publish_events"))
        assert answer["statusCode"] == 202 or CANARY not in json.loads(answer["body"])["detail"]
    module.handler(request(json.dumps({"events": [CANARY]})), context("publish_events"))
    module.handler(request(CANARY), context("publish_events"))
    assert CANARY not in ears.heard()


@pytest.mark.parametrize("name", ["show_decision", "show_record"])
def test_who_shows_decisions_says_nothing(modules, stored, name, monkeypatch, capsys, caplog):
    module = modules[name]
    ears = Ears(module, monkeypatch, capsys, caplog)
    item = {"m": {"S": CANARY}, "f": {"S": stored.fingerprint}, "r": {"B": stored.record}}
    item |= {"pk": {"S": stored.id}, "a": {"B": stored.answer}, "q": {"N": "1"}, "ttl": {"N": "1"}}
    boto3.client("dynamodb").put_item(TableName="decisions", Item=item)
    authorizer = {"authorizer": {"merchant_id": CANARY, "livemode": "true"}}
    event = request(pathParameters={"id": stored.id})
    event["requestContext"] |= authorizer
    event["headers"].pop(CANARY)
    assert module.handler(event, context(name))["statusCode"] == 200
    assert module.handler(event | {"pathParameters": {"id": CANARY}}, context(name))["statusCode"] == 404
    monkeypatch.setattr(module, "DECISIONS", DecisionReader("gone"))
    answer = module.handler(event, context(name))
    assert (answer["statusCode"], CANARY in answer["body"]) == (503, False)
    assert CANARY not in ears.heard()


def test_nobody_annotates_a_trace():
    """Lambda's own segments hold names and times; what we could add would be in the code."""
    sources = [*ROOT.glob("functions/*/handler.py"), *ROOT.glob("layers/*/python/**/*.py")]
    words = ("aws_xray_sdk", "Tracer", "put_annotation", "put_metadata", "opentelemetry")
    assert len(sources) > 50
    assert not [path for path in sources if any(word in path.read_text("utf-8") for word in words)]
