"""Authorisation of requests, over real HTTP."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from local.apigateway.authorization import AuthorizerCache, GatewayError
from local.apigateway.gateway import Authorizer, Gateway
from local.apigateway.proxy import HttpRequest
from tests.local.served import Functions, api, key, policy, refuse, serving

SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/eu-west-1/execute-api/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Functions, httpx.Client]]:
    functions = Functions()
    with serving(Gateway(api(), functions)) as client:
        yield functions, client


@pytest.fixture
def functions(shared: tuple[Functions, httpx.Client]) -> Functions:
    shared[0].__init__()  # type: ignore[misc]
    return shared[0]


@pytest.fixture
def client(shared: tuple[Functions, httpx.Client], functions: Functions) -> httpx.Client:
    return shared[1]


def test_the_authorisers_context_reaches_the_function_as_text(
    client: httpx.Client, functions: Functions
) -> None:
    assert client.post("/v1/decisions", content=b"{}", headers=key()).status_code == 200
    given = functions.events["score"][0]["requestContext"]["authorizer"]
    assert given == {"merchant_id": "mer_1", "livemode": "false", "limit": "3", "principalId": "mer_1"}
    event = functions.events["authorize"][0]
    assert event["type"] == "REQUEST"
    assert event["methodArn"] == "arn:aws:execute-api:eu-west-1:123456789012:local/dev/POST/v1/decisions"
    assert "body" not in event
    assert event["headers"]["authorization"].startswith("Bearer mk_")


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}])
def test_without_the_identity_source_the_authoriser_is_not_asked(
    client: httpx.Client, functions: Functions, headers: dict[str, str]
) -> None:
    answer = client.post("/v1/decisions", content=b"{}", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "status": 401,
        "code": "unauthorized",
        "detail": "Unauthorized",
        "request_id": answer.headers["x-amzn-requestid"],
    }
    assert functions.events["authorize"] == []


def test_policies_are_kept_per_identity(client: httpx.Client, functions: Functions) -> None:
    first, second = key(), key()
    for headers in (first, first, second, first):
        assert client.post("/v1/decisions", headers=headers).status_code == 200
    assert len(functions.events["authorize"]) == 2


def test_a_kept_policy_is_evaluated_for_each_method(client: httpx.Client, functions: Functions) -> None:
    functions.answers["authorize"] = lambda event: policy(resource="arn:aws:execute-api:*:*:*/dev/GET/*")
    headers = key()
    assert client.post("/v1/decisions", headers=headers).status_code == 403
    assert client.get("/v1/decisions/dec_1", headers=headers).status_code == 200
    assert len(functions.events["authorize"]) == 1


@pytest.mark.parametrize(
    ("authorize", "status"),
    [
        (refuse("Unauthorized"), 401),
        (refuse("Unauthorized by the till"), 500),
        (lambda event: policy("Deny"), 403),
        (lambda event: policy(resource="arn:aws:execute-api:other"), 403),
        (lambda event: policy(limits={"a": 1}), 500),
        (lambda event: None, 500),
        (lambda event: [1], 500),
        (lambda event: {"principalId": "mer_1", "policyDocument": {"Statement": ["Allow"]}}, 500),
        (lambda event: b"not json", 500),
    ],
    ids="unauthorized fails denies elsewhere nested-context null list no-statement no-json".split(),
)
def test_what_an_authoriser_may_answer(
    client: httpx.Client, functions: Functions, authorize: Callable[[dict[str, Any]], Any], status: int
) -> None:
    functions.answers["authorize"] = authorize
    answer = client.post("/v1/decisions", headers=key())
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert functions.events["score"] == []


def http_request(**headers: str) -> HttpRequest:
    return HttpRequest("GET", "/v1", "", [*headers.items()], b"", "127.0.0.1", 80)


def test_policies_are_forgotten_after_their_time_and_failures_at_once() -> None:
    functions, now = Functions(), [1000.0]
    cache = AuthorizerCache(Authorizer("authorize", ttl_s=60), functions, lambda: now[0])

    def ask() -> None:
        cache.grant(http_request(authorization="k"), {}, dict)

    functions.answers["authorize"] = refuse("Unauthorized")
    for _ in range(2):
        with pytest.raises(GatewayError):
            ask()
    assert len(functions.events["authorize"]) == 2
    functions.answers["authorize"] = lambda event: policy()
    for moment, calls in [(1000.0, 3), (1059.9, 3), (1060.0, 4), (1119.9, 4), (1120.0, 5)]:
        now[0] = moment
        ask()
        assert len(functions.events["authorize"]) == calls


def test_a_ttl_of_zero_keeps_nothing() -> None:
    functions = Functions()
    cache = AuthorizerCache(Authorizer("authorize", ttl_s=0), functions)
    for _ in range(3):
        cache.grant(http_request(authorization="k"), {}, dict)
    assert len(functions.events["authorize"]) == 3


def test_an_identity_source_of_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not known"):
        AuthorizerCache(Authorizer("authorize", ["stageVariables.x"]), Functions())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": SIGNATURE},
        {"X-Amz-Date": "20261123T000000Z"},
        {"Authorization": "Bearer mk_good", "X-Amz-Date": "20261123T000000Z"},
        {"Authorization": SIGNATURE[:-1], "X-Amz-Date": "20261123T000000Z"},
        {"Authorization": SIGNATURE.replace("execute-api", "s3"), "X-Amz-Date": "20261123T000000Z"},
    ],
)
def test_an_iam_route_needs_a_well_formed_signature(
    client: httpx.Client, functions: Functions, headers: dict[str, str]
) -> None:
    answer = client.post("/v1/events", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert functions.events["publish"] == []


def test_a_signed_request_passes_with_its_access_key(client: httpx.Client, functions: Functions) -> None:
    headers = {"Authorization": SIGNATURE, "X-Amz-Date": "20261123T000000Z"}
    assert client.post("/v1/events", content=b"{}", headers=headers).status_code == 202
    assert functions.events["publish"][0]["requestContext"]["identity"]["accessKey"] == "AKIDEXAMPLE"
