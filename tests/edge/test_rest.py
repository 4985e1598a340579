"""Proxy events, responses and problems."""

from __future__ import annotations

import base64
import json

import pytest

from candor.contracts import MAX_BODY_BYTES
from candor.edge import rest
from candor.errors import InvalidInput


def request(**event) -> rest.Request:
    return rest.Request({"requestContext": {"requestId": "req_1"}} | event)


def test_headers_are_found_in_any_case():
    parsed = request(headers={"idempotency-KEY": "k"})
    assert parsed.header("Idempotency-Key") == parsed.header("IDEMPOTENCY-KEY") == "k"
    assert parsed.header("Other") is None


@pytest.mark.parametrize("event", [{}, {"headers": None, "body": None}])
def test_a_request_with_nothing_in_it(event):
    parsed = request(**event)
    assert (parsed.header("Authorization"), parsed.body(), parsed.authorizer) == (None, b"", {})
    assert parsed.request_id == "req_1"


def test_bodies_come_as_text_or_base64():
    assert request(body="é").body() == "é".encode()
    binary = b"\xff\x00"
    assert request(body=base64.b64encode(binary).decode(), isBase64Encoded=True).body() == binary


@pytest.mark.parametrize("encoded", [False, True])
def test_64_kilobytes_of_bytes_are_the_limit(encoded):
    def sent(length: int) -> rest.Request:
        text = "é" * (length // 2)
        return request(
            body=base64.b64encode(text.encode()).decode() if encoded else text, isBase64Encoded=encoded
        )

    assert len(sent(MAX_BODY_BYTES).body()) == 64 * 1024
    with pytest.raises(InvalidInput) as refused:
        sent(MAX_BODY_BYTES + 2).body()
    assert refused.value.code == "body_too_large"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("malformed_json", 400),
        ("missing_idempotency_key", 400),
        ("invalid_idempotency_key", 400),
        ("replay_clock_refused", 400),
        ("invalid_replay_moment", 400),
        ("unknown_api_version", 400),
        ("unauthorized", 401),
        ("decision_not_found", 404),
        ("body_too_large", 413),
        ("unsupported_media_type", 415),
        ("invalid_field", 422),
        ("missing_field", 422),
        ("unsupported_currency", 422),
        ("occurred_in_future", 422),
    ],
)
def test_a_refusal_is_a_problem_with_code_field_and_request_id(code, status):
    answer = rest.refusal(InvalidInput(code, "Mend it.", "items[0].qty"), "req_1")
    assert answer["statusCode"] == status
    challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    accepted = {"Accept": "application/json"} if status == 415 else {}
    headers = {"Content-Type": "application/problem+json", "Api-Version": "2026-11-01"}
    assert answer["headers"] == headers | challenge | accepted
    problem = json.loads(answer["body"])
    assert problem.pop("title")
    fault = {"code": code, "field": "items[0].qty", "detail": "Mend it."}
    assert problem.pop("errors", []) == ([fault] if status == 422 else [])
    assert problem == {
        "type": f"https://candor.example/problems/{code}",
        "status": status,
        "detail": "Mend it.",
        "code": code,
        "field": "items[0].qty",
        "request_id": "req_1",
    }


def test_a_reused_key_is_no_fault_of_the_body():
    body = json.loads(rest.refusal(InvalidInput("idempotency_key_reused", "Use another."), "r")["body"])
    assert (body["status"], body["field"], "errors" in body) == (422, None, False)


def test_a_refused_body_is_answered_with_all_its_faults_of_which_the_first_is_on_top():
    faults = [
        InvalidInput("missing_field", "Send it.", "total"),
        InvalidInput("invalid_field", "Mend it.", "tip"),
    ]
    body = json.loads(rest.refusal(InvalidInput("missing_field", "Send it.", "total", faults), "r")["body"])
    assert (body["code"], body["field"], body["detail"]) == ("missing_field", "total", "Send it.")
    assert body["errors"] == [
        {"code": "missing_field", "field": "total", "detail": "Send it."},
        {"code": "invalid_field", "field": "tip", "detail": "Mend it."},
    ]


def test_a_problem_of_ours_says_when_to_come_back():
    answer = rest.problem(503, "unavailable", "Retry.", "req_1")
    assert answer["headers"]["Retry-After"] == "1"
    assert json.loads(answer["body"])["field"] is None


def test_an_answer_keeps_its_bytes():
    answer = rest.answer(200, '{"a":"é"}'.encode(), {"Idempotent-Replayed": "true"})
    assert answer == {
        "statusCode": 200,
        "headers": {
            "Content-Type": "application/json",
            "Api-Version": "2026-11-01",
            "Idempotent-Replayed": "true",
        },
        "body": '{"a":"é"}',
    }


def test_what_a_request_says_of_its_path_and_its_signer():
    signed = {"requestId": "req_1", "identity": {"userArn": "arn:aws:iam::1:role/r"}}
    request = rest.Request({"pathParameters": {"id": "dec_1"}, "requestContext": signed})
    assert (request.parameter("id"), request.parameter("other"), request.caller) == (
        "dec_1",
        "",
        "arn:aws:iam::1:role/r",
    )
    bare = rest.Request({"pathParameters": None, "requestContext": {"requestId": "req_1"}})
    assert (bare.parameter("id"), bare.caller) == ("", "")
