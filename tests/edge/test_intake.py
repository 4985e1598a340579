"""Headers and body become an attempt, or an error."""

from __future__ import annotations

import json

import pytest

from candor import Acceptance
from candor.clock import HOUR, FixedClock, parse_rfc3339
from candor.decide import Attempt
from candor.edge.intake import LAST_MOMENT, Intake
from candor.edge.rest import Request
from candor.errors import InvalidInput
from tests.decide.lending import NOW, POLICY, Till, body

ACCEPTANCE = Acceptance(currencies=["USD"], products=["pay_in_4"], countries=["US", "CA"], policy=POLICY)
SKEW = 300_000


def attempt_of(request: Request, *, replay_allowed: bool = False) -> Attempt:
    return Intake(ACCEPTANCE, SKEW, FixedClock(NOW), replay_allowed).attempt_of(request)


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


def refused(request: Request, *, replay_allowed: bool = True) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        attempt_of(request, replay_allowed=replay_allowed)
    return caught.value


def refusal(request: Request, *, replay_allowed: bool = True) -> tuple[str, str | None]:
    error = refused(request, replay_allowed=replay_allowed)
    return error.code, error.field


def faults(**changes) -> list[tuple[str, str | None]]:
    error = refused(request(content=json.dumps(body(**changes))))
    assert (error.code, error.field) == (error.faults[0].code, error.faults[0].field)
    return [(fault.code, fault.field) for fault in error.faults]


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


# What the lender takes


@pytest.mark.parametrize(
    ("changes", "code", "field", "accepted"),
    [
        ({"currency": "JPY"}, "unsupported_currency", "currency", "Accepted currencies: USD."),
        (
            {"offer": {"product": "pay_in_nirvana", "installments": 4, "period_days": 14}},
            "unsupported_product",
            "offer.product",
            "Accepted products: pay_in_4.",
        ),
        ({"country": "DE"}, "unsupported_country", "country", "Accepted countries: CA, US."),
        ({"country": "ZZ"}, "unsupported_country", "country", "Accepted countries: CA, US."),
    ],
)
def test_what_the_lender_does_not_take_is_refused_with_what_it_takes(changes, code, field, accepted):
    error = refused(request(content=json.dumps(body(**changes))))
    assert (error.code, error.field, error.detail) == (code, field, accepted)
    assert faults(**changes) == [(code, field)]


def test_a_code_that_is_no_currency_is_unknown_and_not_unsupported_as_well():
    assert faults(currency="XXX") == [("unknown_currency", "currency")]


# Every fault at once


def test_faults_of_members_rules_lender_and_clock_are_listed_together():
    listed = faults(
        country="ZZ",
        currency="JPY",
        total=5,
        applicant={},
        offer={"product": "pay_in_nirvana", "installments": 0, "period_days": 14},
        occurred_at="2999-01-01T00:00:00Z",
        tip=1,
    )
    assert listed == [
        ("missing_field", "applicant.token"),
        ("invalid_field", "offer.installments"),
        ("invalid_field", "tip"),
        ("unsupported_currency", "currency"),
        ("unsupported_product", "offer.product"),
        ("unsupported_country", "country"),
        ("occurred_in_future", "occurred_at"),
    ]


def test_a_moment_that_is_none_is_not_in_the_future_as_well():
    assert faults(occurred_at="soon", tip=1) == [
        ("invalid_field", "tip"),
        ("invalid_timestamp", "occurred_at"),
    ]


def test_the_replay_clock_is_the_clock_of_a_refused_body_too():
    headers = {"Idempotency-Key": "k", "Candor-Replay-At": "2017-07-22T00:00:00Z"}
    content = json.dumps(body(tip=1, occurred_at="2017-07-22T00:05:00.001Z"))
    listed = [fault.code for fault in refused(request(headers, content=content)).faults]
    assert listed == ["invalid_field", "occurred_in_future"]


# The content type


@pytest.mark.parametrize(
    "sent",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        "application/json ; charset=iso-8859-1",
    ],
)
def test_json_is_taken_with_any_parameter(sent):
    assert attempt_of(request({"Idempotency-Key": "k", "content-type": sent})).key == "k"


def test_a_body_without_a_content_type_is_read_as_json():
    assert attempt_of(request({"Idempotency-Key": "k"})).key == "k"


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/problem+json",
        "application/json, text/plain",
        "multipart/form-data; boundary=x",
    ],
)
def test_any_other_content_type_is_refused(sent):
    error = refused(request({"Idempotency-Key": "k", "Content-Type": sent}))
    assert (error.code, error.field) == ("unsupported_media_type", "Content-Type")
    assert not sent or sent not in error.detail


def test_of_two_members_of_one_name_the_last_counts():
    content = json.dumps(body()).replace('"country": "US"', '"country": "ZZ", "country": "CA"')
    assert attempt_of(request(content=content)).application.checkout.country == "CA"
