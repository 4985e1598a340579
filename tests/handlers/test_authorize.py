"""Merchant keys: authorisation, identity, and secrecy."""

from __future__ import annotations

import base64

import pytest
from moto import mock_aws
from pynamodb.exceptions import PynamoDBException

from candor.store.dynamodb import MerchantItem, bound
from candor.store.merchants import hashed, new_key, register, usage_key
from tests.handlers.lambdas import Ears, context, create_table, load

TABLE = "merchants-test"
ARN = "arn:aws:execute-api:us-east-1:123456789012:api123/dev/POST/v1/decisions"
LIVE, TEST, SUSPENDED = (new_key(livemode=True), new_key(livemode=False), new_key(livemode=True))


@pytest.fixture(scope="module")
def module():
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        create_table(TABLE)
        table = bound(MerchantItem, TABLE)
        register(table, LIVE, "mer_live", livemode=True)
        register(table, TEST, "mer_test", livemode=False)
        table(hashed(SUSPENDED), merchant_id="mer_gone", status="suspended", livemode=True).save()
        yield load("authorize", monkeypatch, {"MERCHANTS_TABLE": TABLE})


@pytest.fixture
def authorize(module):
    return lambda headers: module.handler(
        {"type": "REQUEST", "methodArn": ARN, "headers": headers}, context("authorize")
    )


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {LIVE}"},
        {"authorization": f"bearer {LIVE}"},
        {"AUTHORIZATION": f"Bearer   {LIVE} "},
        {"Authorization": basic(f"{LIVE}:")},
        {"Authorization": basic(LIVE)},
        {"Authorization": basic(f"{LIVE}:ignored")},
    ],
    ids=["bearer", "lower case", "spaces", "basic", "basic without colon", "basic with password"],
)
def test_a_known_key_passes_as_its_merchant(authorize, headers):
    answer = authorize(headers)
    assert answer["principalId"] == "mer_live"
    assert answer["context"] == {"merchant_id": "mer_live", "livemode": "true"}


def test_the_mode_comes_with_the_key(authorize):
    assert authorize({"Authorization": basic(f"{TEST}:")})["context"] == {
        "merchant_id": "mer_test",
        "livemode": "false",
    }


def test_all_keys_of_a_merchant_use_up_the_same_quota_and_no_other_does(module, authorize):
    second = new_key(livemode=True)
    register(module.MERCHANTS, second, "mer_live", livemode=True)
    used = [
        authorize({"Authorization": f"Bearer {key}"})["usageIdentifierKey"] for key in (LIVE, second, TEST)
    ]
    assert used[0] == used[1] == usage_key("mer_live")
    assert used[0] != used[2]
    assert all(20 <= len(key) <= 128 for key in used)  # what API Gateway takes for an API key's value


def test_the_policy_allows_this_stage_of_this_api_and_nothing_else(authorize):
    (statement,) = authorize({"Authorization": f"Bearer {LIVE}"})["policyDocument"]["Statement"]
    assert statement == {
        "Action": "execute-api:Invoke",
        "Effect": "Allow",
        "Resource": "arn:aws:execute-api:us-east-1:123456789012:api123/dev/*",
    }


REFUSED = {
    "no headers": None,
    "no header": {},
    "empty": {"Authorization": ""},
    "unknown": {"Authorization": f"Bearer {new_key(livemode=True)}"},
    "suspended": {"Authorization": f"Bearer {SUSPENDED}"},
    "suspended, basic": {"Authorization": basic(f"{SUSPENDED}:")},
    "no scheme": {"Authorization": LIVE},
    "another scheme": {"Authorization": f"Digest {LIVE}"},
    "bearer alone": {"Authorization": "Bearer "},
    "basic alone": {"Authorization": "Basic"},
    "not base64": {"Authorization": f"Basic {LIVE}"},
    "no text": {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:").decode()},
    "not ASCII": {"Authorization": "Basic éé"},
    "no user": {"Authorization": basic(f":{LIVE}")},
    "the stored hash": {"Authorization": f"Bearer {hashed(LIVE)}"},
    "another case": {"Authorization": f"Bearer {LIVE.swapcase()}"},
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
def test_everyone_else_is_unauthorized_in_the_gateways_own_word(authorize, headers):
    with pytest.raises(Exception, match=r"^Unauthorized$") as refused:
        authorize(headers)
    assert type(refused.value) is Exception


def test_a_table_that_is_away_lets_nobody_pass_and_does_not_say_unauthorized(module, authorize, monkeypatch):
    monkeypatch.setattr(module, "MERCHANTS", bound(MerchantItem, "gone"))
    with pytest.raises(PynamoDBException):
        authorize({"Authorization": f"Bearer {LIVE}"})


def test_no_key_is_ever_logged(module, authorize, monkeypatch, capsys, caplog):
    ears = Ears(module, monkeypatch, capsys, caplog)
    keys = [LIVE, SUSPENDED, "sk_live_canary"]
    authorize({"Authorization": f"Bearer {LIVE}", "X-Other": "canary"})
    for key in keys[1:]:
        for header in (f"Bearer {key}", basic(f"{key}:")):
            with pytest.raises(Exception, match=r"^Unauthorized$"):
                authorize({"Authorization": header, "X-Other": "canary"})
    printed = ears.heard()
    assert printed.count("unknown_key") >= 4
    for secret in [*keys, *map(hashed, keys), "canary"]:
        assert secret not in printed
        assert base64.b64encode(secret.encode()).decode()[:-4] not in printed
