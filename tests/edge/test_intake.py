"""Headers and body become an attempt, or an error."""

from __future__ import annotations

import json

import pytest

from candor.clock import HOUR, parse_rfc3339
from candor.edge.intake import LAST_MOMENT, attempt_of
from candor.edge.rest import Request
from candor.errors import InvalidInput
from tests.decide.lending import Till, body


def request(
    headers: dict | None = None, authorizer: dict | None = None, content: str | None = None
) -> Request:
    return Request(
        {
            "headers": {"Idempotency-Key": "k1"} if headers is None else headers,
            "body": json.dumps(body()) if content is None else content,
            "requestContext": {
                "requestId": "req_1",
                "authorizer": {"merchant_id": "mer_1", "livemode": "false"}
                if authorizer is None
                else authorizer,
            },
        }
    )


def refusal(request: Request, *, replay_allowed: bool = True) -> tuple[str, str | None]:
    with pytest.raises(InvalidInput) as refused:
        attempt_of(request, replay_allowed=replay_allowed)
    return refused.value.code, refused.value.field


def test_an_attempt_is_body_merchant_key_and_mode():
    attempt = attempt_of(request(), replay_allowed=False)
    assert (attempt.key, attempt.replay_at) == ("k1", None)
    assert (attempt.application.merchant_id, attempt.application.livemode) == ("mer_1", False)
    assert attempt.application.checkout.applicant.token == "ann"


@pytest.mark.parametrize(("text", "live"), [("true", True), ("false", False), (None, False), ("True", False)])
def test_livemode_is_what_the_authoriser_says(text, live):
    received = request(authorizer={"merchant_id": "mer_1"} | ({"livemode": text} if text else {}))
    assert attempt_of(received, replay_allowed=False).application.livemode is live


@pytest.mark.parametrize("authorizer", [{}, {"merchant_id": ""}, {"livemode": "true"}])
def test_without_a_merchant_there_is_no_attempt(authorizer):
    assert refusal(request(authorizer=authorizer)) == ("unauthorized", None)


def test_a_merchant_in_the_body_is_refused():
    received = request(content=json.dumps(body() | {"merchant_id": "mer_2"}))
    assert refusal(received) == ("invalid_field", "merchant_id")


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": ""}, {"Idempotency-Key": "  "}])
def test_a_key_is_needed(headers):
    assert refusal(request(headers)) == ("missing_idempotency_key", "Idempotency-Key")


@pytest.mark.parametrize("key", ["k" * 256, "a\nb", "a\x00b", "\u202eright to left"])
def test_a_key_is_at_most_255_printable_characters(key):
    assert refusal(request({"Idempotency-Key": key})) == ("invalid_idempotency_key", "Idempotency-Key")
    assert attempt_of(request({"Idempotency-Key": "k" * 255}), replay_allowed=False).key == "k" * 255


def test_the_replay_clock_is_refused_where_the_stage_does_not_allow_it():
    received = request({"Idempotency-Key": "k", "Candor-Replay-At": "2017-07-22T00:00:00Z"})
    assert refusal(received, replay_allowed=False) == ("replay_clock_refused", "Candor-Replay-At")
    assert attempt_of(received, replay_allowed=True).replay_at == parse_rfc3339("2017-07-22T00:00:00Z")


@pytest.mark.parametrize(
    "moment",
    [
        "",
        "yesterday",
        "2017-07-22",
        "2017-07-22T00:00:00",
        "1500681600",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_a_replay_moment_is_rfc_3339_with_an_offset_from_1970_on(moment):
    received = request({"Idempotency-Key": "k", "Candor-Replay-At": moment})
    assert refusal(received) == ("invalid_replay_moment", "Candor-Replay-At")


@pytest.mark.parametrize("moment", [0, LAST_MOMENT])
def test_at_both_ends_of_the_replay_clock_a_decision_is_answered(moment):
    answer = json.loads(Till().decide(replay_at=moment).body)
    assert parse_rfc3339(answer["expires_at"]) == moment + HOUR
