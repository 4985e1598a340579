"""The gateway over real HTTP; functions are plain Python, except in the last section."""

import asyncio
import base64
import json
import os
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.apigateway.gateway import Authorizer, Gateway, GatewayResponse, MockIntegration, RestApi, Route
from local.apigateway.proxy import MalformedResponse, proxy_response
from local.apigateway.rest_api import RouteTable
from local.lambda_.service import FunctionSpec, Invocation, LambdaService
from tests.local.served import ROUTES, Functions, api, refuse, serving

KEY = {"Authorization": "Bearer mk_good"}


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


# The event


def test_the_proxy_event_has_the_shape_of_payload_version_1(client: httpx.Client) -> None:
    headers = [("X-Tag", "a"), ("X-Tag", "b"), ("User-Agent", "till/1.0")]
    answer = client.post("/open/a/b?x=1&x=2&y=", content=b'{"total": 1}', headers=headers)
    event = answer.json()
    assert event["resource"] == "/open/{proxy+}"
    assert event["path"] == "/open/a/b"
    assert event["httpMethod"] == "POST"
    assert event["pathParameters"] == {"proxy": "a/b"}
    assert event["queryStringParameters"] == {"x": "2", "y": ""}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"], "y": [""]}
    assert event["headers"]["x-tag"] == "b"
    assert event["multiValueHeaders"]["x-tag"] == ["a", "b"]
    assert event["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert event["body"] == '{"total": 1}'
    assert event["isBase64Encoded"] is False
    context = event["requestContext"]
    assert context["requestId"] == answer.headers["x-amzn-requestid"]
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert context["identity"]["userAgent"] == "till/1.0"
    assert context["stage"] == "dev"
    assert context["path"] == "/dev/open/a/b"
    assert abs(context["requestTimeEpoch"] - time.time() * 1000) < 60_000


def test_without_query_and_body_the_fields_are_null(client: httpx.Client) -> None:
    event = client.get("/open/a").json()
    assert event["queryStringParameters"] is None
    assert event["multiValueQueryStringParameters"] is None
    assert event["body"] is None


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"\x80" * 1000, b'{"a": "\xe9"}'])
def test_a_body_that_is_not_utf8_arrives_in_base64(client: httpx.Client, body: bytes) -> None:
    event = client.post("/open/a", content=body).json()
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == body


@pytest.mark.parametrize("body", [b"not json", b"{", b"\x00", "é€😀".encode(), b'"' * 9_000])
def test_any_text_arrives_as_it_was_sent(client: httpx.Client, body: bytes) -> None:
    event = client.post("/open/a", content=body).json()
    assert event["isBase64Encoded"] is False
    assert event["body"].encode() == body


# Answers


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/v1/decisions"), ("POST", "/v2"), ("PUT", "/v1/events")]
)
def test_an_unknown_route_gets_its_declared_answer(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")


@pytest.mark.parametrize(
    "broken",
    [
        b"not json",
        None,
        [],
        {},
        {"statusCode": "ok"},
        {"statusCode": True},
        {"statusCode": 99},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "headers": ["x-a"]},
        {"statusCode": 200, "headers": {"x-a": "b\r\nset-cookie: c"}},
        {"statusCode": 200, "headers": {"x a": "b"}},
        {"statusCode": 200, "headers": {"x-a": None}},
        {"statusCode": 200, "headers": {"x-a": "€"}},
        {"statusCode": 200, "multiValueHeaders": {"x-a": "b"}},
        {"statusCode": 200, "body": "&", "isBase64Encoded": True},
    ],
)
def test_a_malformed_answer_is_a_502_that_tells_the_client_nothing(
    client: httpx.Client, functions: Functions, broken: Any
) -> None:
    functions.answers["open"] = lambda event: broken
    answer = client.get("/open/a")
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"code": "internal", "request_id": answer.headers["x-amzn-requestid"]}


def test_a_failing_function_is_a_502_and_its_message_stays_inside(
    client: httpx.Client, functions: Functions, caplog: pytest.LogCaptureFixture
) -> None:
    functions.answers["open"] = refuse("secret of the lender")
    answer = client.get("/open/a")
    assert answer.status_code == 502
    assert "secret" not in answer.text
    assert "secret of the lender" in caplog.text


def test_a_gateway_that_fails_itself_is_a_500_without_a_stack_trace() -> None:
    def invoke(name: str, payload: bytes) -> Invocation:
        raise LookupError("no function open is registered")

    with serving(Gateway(api(), invoke)) as client:
        answer = client.get("/open/a")
    assert answer.status_code == 500
    assert "registered" not in answer.text
    assert answer.json()["code"] == "internal"


def test_a_function_slower_than_the_limit_is_a_504_and_delays_nobody() -> None:
    functions, release = Functions(), threading.Event()

    def slow(event: dict[str, Any]) -> Any:
        if event["path"] == "/open/slow":
            release.wait(20)
        return {"statusCode": 200}

    functions.answers["open"] = slow
    with serving(Gateway(api(timeout_s=0.3), functions)) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get, "/open/slow")
        assert client.get("/open/fast").status_code == 200
        assert waiting.result().status_code == 504
        assert waiting.result().json()["code"] == "internal"
        release.set()


def test_headers_and_status_of_the_function_reach_the_client(
    client: httpx.Client, functions: Functions
) -> None:
    functions.answers["open"] = lambda event: {
        "statusCode": "201",
        "headers": {"Idempotent-Replayed": True, "Content-Length": "999", "X-Tag": "lost"},
        "multiValueHeaders": {"X-Tag": ["a", "b"], "Content-Type": ["text/plain"]},
        "body": "YWJj",
        "isBase64Encoded": True,
    }
    answer = client.get("/open/a")
    assert answer.status_code == 201
    assert answer.content == b"abc"
    assert (b"Idempotent-Replayed", b"true") in answer.headers.raw  # spelt as the function spells it
    assert answer.headers.get_list("x-tag") == ["a", "b"]
    assert answer.headers.get_list("content-type") == ["text/plain"]
    assert answer.headers.get_list("content-length") == ["3"]


def test_an_answer_without_content_has_none(client: httpx.Client, functions: Functions) -> None:
    functions.answers["open"] = lambda event: {"statusCode": 204, "body": "ignored"}
    answer = client.delete("/open/a")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.head("/open/a").status_code == 204


def test_undeclared_responses_are_those_of_api_gateway() -> None:
    with serving(Gateway(RestApi(ROUTES, {"keys": Authorizer("authorize")}), Functions())) as client:
        unknown = client.get("/nowhere")
        assert (unknown.status_code, unknown.json()) == (403, {"message": "Missing Authentication Token"})
        refused = client.post("/v1/decisions")
        assert (refused.status_code, refused.json()) == (401, {"message": "Unauthorized"})
        assert refused.headers["content-type"] == "application/json"


def mock_method(**integration: Any) -> dict[str, Any]:
    """The properties of a method with a mock integration, as the CDK writes them."""
    header = "method.response.header.Allow"
    response = {
        "StatusCode": "405",
        "ResponseParameters": {header: "'POST'"},
        "ResponseTemplates": {"application/json": '{"code":"wrong","request_id":"$context.requestId"}'},
    }
    whole = {
        "Type": "MOCK",
        "PassthroughBehavior": "NEVER",
        "RequestTemplates": {"application/json": '{"statusCode":405}', "text/plain": '{"statusCode":405}'},
        "IntegrationResponses": [response],
    }
    declared = [{"StatusCode": "405", "ResponseParameters": {header: True}}]
    return {"Integration": {**whole, **integration}, "MethodResponses": declared}


def test_a_mock_integration_answers_every_other_method_and_no_function_is_called() -> None:
    functions = Functions()
    mock = MockIntegration.of_template(mock_method())
    routes = [*ROUTES, Route("ANY", "/v1/decisions", "", mock=mock)]
    with serving(Gateway(RestApi(routes, {"keys": Authorizer("authorize")}), functions)) as client:
        for method in ("PUT", "GET", "DELETE", "OPTIONS", "PATCH"):
            answer = client.request(method, "/v1/decisions")
            assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
            assert answer.json() == {"code": "wrong", "request_id": answer.headers["x-amzn-requestid"]}
            assert answer.headers["content-type"] == "application/json"
        assert not any(functions.events.values())
        assert client.post("/v1/decisions", headers=KEY).status_code == 200


def test_a_mock_integration_refuses_content_types_without_a_template() -> None:
    mock = MockIntegration.of_template(mock_method())
    with serving(Gateway(RestApi([Route("ANY", "/a", "", mock=mock)]), Functions())) as client:
        for kind, status in (
            ("application/json; charset=utf-8", 405),
            ("Text/Plain", 405),
            ("text/csv", 415),
        ):
            assert client.put("/a", content=b"x", headers={"Content-Type": kind}).status_code == status


@pytest.mark.parametrize(
    ("integration", "why"),
    [
        ({"PassthroughBehavior": "WHEN_NO_MATCH"}, "must not pass bodies through"),
        ({"RequestTemplates": {}}, "one status"),
        ({"RequestTemplates": {"application/json": '{"statusCode":200}'}}, "one status"),
        ({"RequestTemplates": {"application/json": "#if($x) {} #end"}}, "a constant statusCode"),
        ({"IntegrationResponses": []}, "one status"),
        ({"IntegrationResponses": [{"StatusCode": "405"}]}, "one template"),
        (
            {
                "IntegrationResponses": [
                    {"StatusCode": "405", "ResponseParameters": {"method.response.header.X": "'1'"}}
                ]
            },
            "header.X must be a literal that the method's response declares",
        ),
    ],
)
def test_a_mock_integration_that_is_no_constant_answer_is_refused(
    integration: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        MockIntegration.of_template(mock_method(**integration))


def test_a_functions_own_challenge_is_renamed_as_on_aws(client: httpx.Client, functions: Functions) -> None:
    functions.answers["open"] = lambda event: {
        "statusCode": 401,
        "headers": {"WWW-Authenticate": "Bearer"},
    }
    answer = client.get("/open/a")
    assert "www-authenticate" not in answer.headers
    assert answer.headers["x-amzn-remapped-www-authenticate"] == "Bearer"


def test_context_variables_never_break_the_json_of_a_response() -> None:
    template = '{"path":"$context.path","kind":"$context.error.responseType","none":"$context.authorizer.x."}'
    responses = {
        "DEFAULT_4XX": GatewayResponse(headers={"X-Id": "context.requestId"}, templates={"a/b": template})
    }
    with serving(Gateway(RestApi([], responses=responses), Functions())) as client:
        answer = client.get('/a"b%0A')
    expected = {"path": '/dev/a"b\n', "kind": "MISSING_AUTHENTICATION_TOKEN", "none": "."}
    assert json.loads(answer.content) == expected
    assert answer.headers["content-type"] == "a/b"
    assert answer.headers["x-id"] == answer.headers["x-amzn-requestid"]


def test_more_than_ten_megabytes_are_refused_and_exactly_ten_are_not(
    client: httpx.Client, functions: Functions
) -> None:
    functions.answers["open"] = lambda event: {"statusCode": 200, "body": str(len(event["body"]))}
    limit = 10 * 1024 * 1024
    assert client.post("/open/a", content=b"x" * limit).text == str(limit)
    assert client.post("/open/a", content=b"x" * (limit + 1)).status_code == 413
    assert client.post("/open/a", content=iter([b"x" * limit, b"y"])).status_code == 413


def test_a_body_too_large_for_a_function_is_a_413() -> None:
    def invoke(name: str, payload: bytes) -> Invocation:
        return Invocation(b"{}", "RequestEntityTooLargeException", "r")

    with serving(Gateway(api(), invoke)) as client:
        assert client.get("/open/a").status_code == 413


def test_literal_segments_win_and_a_named_method_wins_over_any() -> None:
    routes = [
        Route("ANY", "/v1/{proxy+}", "any"),
        Route("GET", "/v1/decisions/{id}", "one"),
        Route("GET", "/v1/decisions/latest", "latest"),
        Route("ANY", "/v1/decisions/latest", "any-latest"),
    ]
    table = RouteTable(routes)

    def function(method: str, path: str) -> str | None:
        match = table.find(method, path)
        return match[0].function if match else None

    assert function("GET", "/v1/decisions/latest") == "latest"
    assert function("PUT", "/v1/decisions/latest") == "any-latest"
    assert function("GET", "/v1/decisions/dec_1") == "one"
    assert function("GET", "/v1/decisions/dec_1/x") == "any"
    assert function("GET", "/v1") is None
    assert function("GET", "/v1/decisions.latest") == "any"


def test_a_route_with_an_undeclared_authoriser_is_an_error() -> None:
    with pytest.raises(ValueError, match="POST /a: CUSTOM"):
        RestApi([Route("POST", "/a", "f", authorizer="none", auth="CUSTOM")])


def test_a_client_that_leaves_before_the_end_of_its_body_is_forgotten() -> None:
    functions, sent = Functions(), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    gateway = Gateway(api(), functions)
    asyncio.run(gateway.app({"type": "http"}, receive, send))
    asyncio.run(gateway.app({"type": "websocket"}, receive, send))
    gateway.close()
    assert sent == [{"type": "websocket.close"}]


def test_lone_surrogates_cannot_break_an_answer() -> None:
    assert proxy_response(b'{"statusCode": 200, "body": "\\ud800"}').body == b"?"
    with pytest.raises(MalformedResponse):
        proxy_response(b'{"statusCode": 200, "headers": {"x-a": "\\ud800"}}')


# With real functions in their own processes

HANDLER = """
    import json, os, time

    def handler(event, context):
        if event["path"].endswith("/sleep"):
            time.sleep(60)
        if event["path"].endswith("/exit"):
            os._exit(1)
        return {"statusCode": 200, "body": json.dumps({"pid": os.getpid(), "got": event["body"]})}

    def authorize(event, context):
        if event["headers"]["authorization"] != "Bearer mk_good":
            raise Exception("Unauthorized")
        statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": event["methodArn"]}
        return {"principalId": "m", "policyDocument": {"Statement": [statement]}, "context": {}}
"""


@pytest.fixture
def lambdas(tmp_path: Path) -> Iterator[LambdaService]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "handler.py").write_text(textwrap.dedent(HANDLER))
    with LambdaService(tmp_path / "logs") as service:
        for name, entry in [("score", "handler"), ("open", "handler"), ("authorize", "authorize")]:
            spec = FunctionSpec(name, f"handler.{entry}", code, timeout_s=1, concurrency=2)
            service.register(spec)
        yield service


def test_64_parallel_clients_each_get_their_own_answer(lambdas: LambdaService) -> None:
    with serving(Gateway(api(), lambdas.invoke)) as client, ThreadPoolExecutor(64) as pool:

        def post(number: int) -> tuple[int, str]:
            answer = client.post("/v1/decisions", content=str(number).encode(), headers=KEY)
            return answer.status_code, answer.json()["got"]

        assert list(pool.map(post, range(640))) == [(200, str(number)) for number in range(640)]
        assert len(lambdas.pids("score")) <= 2


def test_a_wrong_key_is_a_401_through_the_real_runtime(lambdas: LambdaService) -> None:
    with serving(Gateway(api(), lambdas.invoke)) as client:
        answer = client.post("/v1/decisions", headers={"Authorization": "Bearer mk_bad"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert client.post("/v1/decisions", headers=KEY).status_code == 200


def test_killed_crashed_and_hanging_functions_cost_one_request_at_most(lambdas: LambdaService) -> None:
    with serving(Gateway(api(), lambdas.invoke)) as client:
        pid = client.post("/open/a").json()["pid"]
        os.kill(pid, signal.SIGKILL)
        at_once, next_one = client.post("/open/a"), client.post("/open/a")
        assert at_once.status_code in (200, 502), "it may have been sent to the one that is dying"
        assert at_once.json().get("pid") != pid
        assert next_one.json()["pid"] != pid
        for path in ("/open/exit", "/open/sleep"):
            answer = client.post(path)
            assert (answer.status_code, answer.json()["code"]) == (502, "internal")
            assert client.post("/open/a").status_code == 200
