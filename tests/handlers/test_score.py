"""POST /v1/decisions over real HTTP to moto: the deployed scorer with the lender's own definitions and policy."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import boto3
import pytest

from candor.clock import DAY, HOUR, SystemClock
from candor.contracts import MAX_BODY_BYTES, parse_envelope
from candor.features.state import ViewState
from candor.ingest import ingest
from candor.model.bundle import Bundle
from candor.store.dynamodb import DynamoFeatureStore
from candor.updates import Retention
from lender import DEFINITIONS, MONOTONE, REASONS, REGULATION_PROFILE, policy
from tests.handlers.checkouts import ABOVE_FIRST_LOAN, BAD_CHECKOUTS, RISKY, SMALL, checkout, planted
from tests.handlers.lambdas import Ears, problem, proxied
from tests.handlers.lending import CANARY, ago, envelope, payment
from tests.handlers.scoring import AUTHORIZER, Scorer, point_at, recorded, standing
from tests.trained import train


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train(DEFINITIONS, policy(), REASONS, {"request.amount": 100_000.0}, monotone=MONOTONE)


@pytest.fixture(scope="module")
def environment(bundle: Bundle) -> Iterator[dict[str, str]]:
    with standing(bundle) as (_, given):
        yield given


@pytest.fixture(scope="module")
def warm(environment) -> Iterator[Scorer]:
    scorer = Scorer(environment)
    yield scorer
    scorer.close()


@pytest.fixture
def start(environment) -> Iterator[Any]:
    """Start another sandbox, with another environment if wanted."""
    started: list[Scorer] = []

    def begin(**changes: str) -> Scorer:
        started.append(Scorer(environment, **changes))
        return started[-1]

    yield begin
    for scorer in started:
        scorer.close()


# Deciding


def test_a_small_checkout_is_approved_and_recorded(warm, bundle):
    answer = warm(key="approve")
    assert answer["statusCode"] == 200
    assert answer["headers"] == {"Content-Type": "application/json", "Api-Version": "2026-11-01"}
    body = json.loads(answer["body"])
    assert (body["outcome"], body["approved_amount_max"], body["livemode"]) == ("approved", SMALL, False)
    record = recorded(answer)
    assert (record["merchant_id"], record["bundle"], record["degraded"]) == ("mer_1", bundle.sha, False)
    assert record["regulation_profile"] == REGULATION_PROFILE.name
    assert set(record["vector"]["states"].values()) == {"absent"}


@pytest.mark.parametrize(
    ("total", "component", "codes"),
    [
        (RISKY, "model", {reason.code for reason in REASONS if reason.of_model}),
        (ABOVE_FIRST_LOAN, "policy", {"H09"}),
    ],
)
def test_a_decline_is_an_answer_with_its_reasons_kept_inside(warm, total, component, codes):
    answer = warm(checkout(total), key=f"decline {total}")
    assert (answer["statusCode"], json.loads(answer["body"])["outcome"]) == (200, "declined")
    record = recorded(answer)
    assert record["component"] == component
    assert 1 <= len(record["reasons"]) <= 4
    assert set(record["reasons"]) <= codes
    assert not any(code in answer["body"] for code in record["reasons"])


def test_what_the_updater_stored_is_what_the_scorer_reads(warm):
    events = [
        parse_envelope(envelope(payment(f"evt_{n}", "cus_failing", occurred_at=ago(n * HOUR))).encode())
        for n in range(1, 4)
    ]
    store = DynamoFeatureStore("features")
    outcome = ingest(events, DEFINITIONS, store, SystemClock(), Retention(event_ids=20 * DAY))
    assert not outcome.failed
    record = recorded(warm(checkout(token="cus_failing"), key="failing"))
    assert record["vector"]["states"]["customer_failures"] == "present"
    assert (record["rules"], record["reasons"]) == (["payments_failed"], ["H03"])


def items_of(customer: str) -> dict[str, ViewState]:
    """The synchronous items of a customer, by view."""
    scanned = boto3.client("dynamodb").scan(TableName="synchronous", ConsistentRead=True)["Items"]
    views = {view.name: view for view in DEFINITIONS.views}
    items = {item["pk"]["S"]: item["b"]["B"] for item in scanned if item["pk"]["S"].endswith(f"#{customer}")}
    return {
        (name := key.partition("@")[0]): ViewState.decode(views[name], blob) for key, blob in items.items()
    }


def test_the_seventh_checkout_of_a_day_is_declined_without_waiting_for_any_event(warm):
    records = [recorded(warm(checkout(1_000, token="cus_fast"), key=f"fast {n}")) for n in range(8)]
    assert [record["outcome"] for record in records] == ["approved"] * 6 + ["declined"] * 2
    assert [record["reasons"] for record in records[6:]] == [["H06"], ["H06"]]
    assert all(earlier["q"] < later["q"] for earlier, later in pairwise(records))
    state = items_of("cus_fast")["customer_checkouts"]
    assert dict(zip(_names("customer_checkouts"), state.values(records[-1]["q"] + 1), strict=True)) == {
        "customer_checkouts.count.1h": 8.0,
        "customer_checkouts.count.24h": 8.0,
        "customer_checkouts.count.7d": 8.0,
    }


def _names(view: str) -> list[str]:
    return [name for name in DEFINITIONS.features if name.startswith(f"{view}.")]


def test_what_was_granted_within_the_hour_counts_as_exposure_and_a_repeated_key_only_once(warm):
    loan = {
        **payment("evt_lent", "cus_lent"),
        "type": "loan.originated",
        "data": {
            "checkout_id": "chk_0", "loan_id": "loan_0", "amount": 298_000, "currency": "USD",
            "first_due_at": 0, "final_due_at": 0,
        },
    }  # fmt: skip
    outcome = ingest(
        [parse_envelope(envelope(loan).encode())],
        DEFINITIONS,
        DynamoFeatureStore("features"),
        SystemClock(),
        Retention(event_ids=20 * DAY),
    )
    assert not outcome.failed
    body = checkout(1_000, token="cus_lent")
    answers = [warm(body, key=f"lent {n}") for n in (0, 0, 1, 2)]
    assert answers[0]["body"] == answers[1]["body"]
    records = [recorded(answer) for answer in answers]
    assert [record["outcome"] for record in records] == ["approved"] * 3 + ["declined"]
    assert records[3]["reasons"] == ["H07"]
    exposure = DEFINITIONS.features.index("request.exposure")
    assert [record["vector"]["values"][exposure] for record in records] == [
        299_000,
        299_000,
        300_000,
        301_000,
    ]


def test_the_same_again_is_byte_identical_and_says_so(warm, start):
    first = warm(key="again")
    again = warm(key="again")
    assert again["body"] == first["body"]
    assert again["headers"]["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first["headers"]
    other_sandbox = start()(key="again")
    assert (other_sandbox["body"], other_sandbox["headers"]) == (first["body"], again["headers"])


def test_a_key_with_another_request_is_422(warm):
    first = warm(key="reused")
    assert problem(warm(checkout(SMALL + 1), key="reused")) == (422, "idempotency_key_reused", None)
    assert warm(key="reused")["body"] == first["body"]


def test_the_mode_and_the_merchant_are_the_authorisers(warm):
    event = proxied(checkout(), {"Idempotency-Key": "live"}, merchant_id="mer_2", livemode="true")
    answer = warm.handle(event)
    assert json.loads(answer["body"])["livemode"] is True
    assert recorded(answer)["merchant_id"] == "mer_2"


# Bad input


@pytest.mark.parametrize(("body", "status", "code", "field"), BAD_CHECKOUTS.values(), ids=BAD_CHECKOUTS)
def test_a_bad_body_is_a_problem_that_names_the_field(warm, body, status, code, field):
    assert problem(warm(body, key="bad")) == (status, code, field)


def test_no_refused_request_used_its_key(warm):
    assert warm(key="bad")["statusCode"] == 200


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"checkout_id":"\xff"}', b"\x00"])
def test_bytes_that_are_not_json_in_utf_8_are_malformed(warm, content):
    event = proxied(base64.b64encode(content).decode(), {"Idempotency-Key": "bytes"}, **AUTHORIZER)
    assert problem(warm.handle(event | {"isBase64Encoded": True})) == (400, "malformed_json", None)


def test_64_kilobytes_are_the_limit(warm):
    text = json.dumps(checkout())
    assert warm(text + " " * (MAX_BODY_BYTES - len(text)), key="64k")["statusCode"] == 200
    too_large = warm(text + " " * (MAX_BODY_BYTES - len(text) + 1), key="64k+1")
    assert problem(too_large) == (413, "body_too_large", None)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "missing_idempotency_key"),
        (" ", "missing_idempotency_key"),
        ("k" * 256, "invalid_idempotency_key"),
    ],
)
def test_a_request_needs_a_usable_key(warm, key, code):
    assert problem(warm(key=key)) == (400, code, "Idempotency-Key")


def test_the_apis_version_is_the_one_that_is_spoken_or_none(warm):
    assert warm(key="dated", **{"Api-Version": "2026-11-01"})["statusCode"] == 200
    for version in ("", "2026-11-02", "v1"):
        refused = warm(key="dated", **{"api-version": version})
        assert problem(refused) == (400, "unknown_api_version", "Api-Version")
        assert refused["headers"]["Api-Version"] == "2026-11-01"


def test_a_request_without_a_known_merchant_is_401(warm):
    assert problem(warm.handle(proxied(checkout(), {"Idempotency-Key": "k"}))) == (401, "unauthorized", None)


def test_the_replay_clock_is_refused_by_stages_that_do_not_allow_it(warm):
    replay = {"Candor-Replay-At": "2017-07-22T00:00:00Z"}
    assert problem(warm(key="replay", **replay)) == (400, "replay_clock_refused", "Candor-Replay-At")


def test_the_replay_clock_decides_at_its_moment_where_it_is_allowed(start):
    scorer = start(REPLAY_CLOCK="allowed")
    replay = {"candor-replay-at": "2017-07-22T12:00:00.5+02:00"}
    first = scorer(key="replayed", **replay)
    assert json.loads(first["body"])["expires_at"] == "2017-07-22T11:00:00.500Z"
    record = recorded(first)
    assert (record["q"], record["replay_clock"]) == (1_500_717_600_500, True)
    again = scorer(key="replayed", **replay)
    assert again["body"] == first["body"]
    assert again["headers"]["Idempotent-Replayed"] == "true"
    assert problem(scorer(key="other", **{"Candor-Replay-At": "noon"}))[1] == "invalid_replay_moment"
    ahead = checkout(occurred_at="2017-07-22T10:05:00.501Z")
    assert problem(scorer(ahead, key="ahead", **replay)) == (422, "occurred_in_future", "occurred_at")


def test_every_fault_of_a_body_is_in_one_problem(warm):
    bad = checkout(-5, currency="usd", country="ZZ", tip=1, applicant={})
    answer = json.loads(warm(bad, key="bad")["body"])
    assert [(fault["code"], fault["field"]) for fault in answer["errors"]] == [
        ("invalid_field", "total"),
        ("invalid_field", "items[0].unit_price"),
        ("missing_field", "applicant.token"),
        ("invalid_field", "tip"),
        ("unknown_currency", "currency"),
        ("unsupported_country", "country"),
    ]
    assert (answer["code"], answer["field"]) == ("invalid_field", "total")


def test_a_body_of_another_type_is_415_and_none_is_read_as_json(warm):
    for sent in ("text/plain", "application/x-www-form-urlencoded", ""):
        refused = warm(key="typed", **{"Content-Type": sent})
        assert problem(refused) == (415, "unsupported_media_type", "Content-Type")
        assert refused["headers"]["Accept"] == "application/json"
    assert warm(key="typed", **{"Content-Type": "application/json; charset=utf-8"})["statusCode"] == 200
    event = proxied(checkout(), {"Idempotency-Key": "untyped"}, **AUTHORIZER)
    del event["headers"]["Content-Type"]
    assert warm.handle(event)["statusCode"] == 200


# What is away


def test_what_cannot_be_read_is_decided_without_and_nothing_is_granted(start):
    """One call reads all tables: without one of them it is not known what was granted a moment ago."""
    scorer = start(FEATURES_TABLE="gone")
    bodies = {total: checkout(total, token="cus_gone") for total in (SMALL, 20_000)}
    records = [recorded(scorer(body, key=f"gone {total}")) for total, body in bodies.items()]
    assert [record["rules"] for record in records] == [["synchronous_unavailable"], ["unverified_usd"]]
    for record in records:
        assert set(record["vector"]["states"].values()) == {"unavailable"}
        assert (record["degraded"], record["outcome"]) == (True, "action_required")
    assert not items_of("cus_gone"), "nothing is written on top of what was not read"


def test_an_unwritable_record_is_503_and_the_key_is_safe_to_retry(start, warm):
    answer = start(DECISIONS_TABLE="gone")(key="unwritable")
    assert problem(answer) == (503, "unavailable", None)
    assert answer["headers"]["Retry-After"] == "1"
    retried = warm(key="unwritable")
    assert retried["statusCode"] == 200
    assert "Idempotent-Replayed" not in retried["headers"]


def test_without_its_secret_nothing_is_decided_until_it_is_there(start, environment, monkeypatch):
    scorer = start(DECISION_KEY_SECRET="gone")
    assert problem(scorer(key="secret")) == (503, "unavailable", None)
    monkeypatch.setenv("DECISION_KEY_SECRET", environment["DECISION_KEY_SECRET"])
    assert scorer(key="secret")["statusCode"] == 200


@pytest.mark.parametrize("pointer", ["0" * 64, "no such bundle"])
def test_a_bundle_that_is_not_there_leaves_the_policy_alone(start, bundle, pointer):
    point_at(pointer)
    try:
        bodies = {total: checkout(total, token=f"{pointer} {total}") for total in (SMALL, RISKY)}
        answers = [start()(body, key=f"{pointer} {total}") for total, body in bodies.items()]
    finally:
        point_at(bundle.sha)
    assert [json.loads(answer["body"])["outcome"] for answer in answers] == ["approved", "action_required"]
    assert [recorded(answer)["bundle"] for answer in answers] == [None, None]


def test_a_champion_that_cannot_be_read_leaves_the_one_before(start, bundle):
    scorer = start()
    scorer(key="before")
    point_at("0" * 64)
    try:
        answer = scorer(key="after")
    finally:
        point_at(bundle.sha)
    assert recorded(answer)["bundle"] == bundle.sha


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_database_that_does_not_answer_is_a_problem_not_a_crash(start, silent, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", silent)
    assert problem(start(DEADLINE_MS="200")(key="silent")) == (503, "unavailable", None)


# Log lines


def test_each_new_decision_and_each_problem_is_one_line(warm, monkeypatch, capsys, caplog):
    ears = Ears(warm.module, monkeypatch, capsys, caplog)
    warm(key="line")
    (line,) = [json.loads(text) for text in ears.heard().splitlines()]
    assert (line["Decisions"], line["outcome"], line["stage"]) == (1, "approved", "test")
    warm(key="line")
    assert ears.heard() == ""
    warm("no JSON", key="line")
    (line,) = [json.loads(text) for text in ears.heard().splitlines()]
    assert (line["Problems"], line["code"], line["status"]) == (1, "malformed_json", 400)


def test_nothing_that_a_caller_sends_is_logged(start, monkeypatch, capsys, caplog):
    scorer = start(REPLAY_CLOCK="allowed")
    ears = Ears(scorer.module, monkeypatch, capsys, caplog)
    headers = {"Authorization": CANARY, "X-Forwarded-For": CANARY}
    assert scorer(planted(), key=CANARY, **headers)["statusCode"] == 200
    assert scorer(planted(), key=CANARY, **headers)["statusCode"] == 200
    assert scorer(planted() | {"country": "CA"}, key=CANARY, **headers)["statusCode"] == 422
    whole = planted()
    for field in whole:
        assert scorer(whole | {field: CANARY * 100}, key=CANARY)["statusCode"] == 422
        assert scorer(whole | {field: [CANARY]}, key=CANARY)["statusCode"] == 422
    scorer(whole | {f"{CANARY} {CANARY}": 1}, key=CANARY)
    scorer(whole | {CANARY: 1}, key=CANARY)
    scorer(CANARY, key=CANARY)
    scorer(whole, key=CANARY * 100)
    scorer(whole, key=CANARY, **{"Candor-Replay-At": CANARY})
    monkeypatch.setenv("DECISIONS_TABLE", "gone")
    away = start(DECISIONS_TABLE="gone")
    assert away(whole, key=f"{CANARY}2")["statusCode"] == 503
    heard = ears.heard()
    assert heard.count('"Problems"') > 20
    assert CANARY not in heard
