"""The API of the running system over HTTP: the printed curl line, repeated keys, malformed requests."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from benchmarks.load import door_in
from tests.system.conftest import Served
from tests.system.running import ROOT, environment, left_of

LIMIT = 64 * 1024
Post = Callable[..., httpx.Response]


def body_of(curl: str) -> dict[str, Any]:
    words = shlex.split(curl)
    body: dict[str, Any] = json.loads(words[words.index("-d") + 1])
    return body


def run_curl(curl: str) -> httpx.Response:
    """Run the printed command, with curl itself where it is installed."""
    if shutil.which("curl") is None:
        door = door_in(curl)
        words = shlex.split(curl)
        headers = dict(words[index + 1].split(": ", 1) for index, word in enumerate(words) if word == "-H")
        content = words[words.index("-d") + 1]
        return httpx.post(f"{door.url}/v1/decisions", content=content, headers=headers, auth=(door.key, ""))
    done = subprocess.run(["sh", "-c", curl], capture_output=True, check=True)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    status, *lines = head.decode().splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    return httpx.Response(int(status.split()[1]), headers=headers, content=content)


def printed(*words: str) -> dict[str, Any]:
    """Run a command of `candor` and parse its JSON."""
    command = [sys.executable, "-m", "cli", *words, "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    return values


@pytest.fixture(scope="module")
def body(served: Served) -> dict[str, Any]:
    return body_of(served.running.curl)


@pytest.fixture(scope="module")
def post(served: Served, body: dict[str, Any]) -> Post:
    """Post a checkout, by default with a valid merchant key; None leaves a header out."""
    door = served.running.door

    def send(
        key: str | None, content: bytes | None = None, merchant_key: str | None = door.key, **headers: str
    ) -> httpx.Response:
        given = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        given |= {} if key is None else {"Idempotency-Key": key}
        given |= {} if merchant_key is None else {"Authorization": f"Bearer {merchant_key}"}
        payload = json.dumps(body).encode() if content is None else content
        return httpx.post(f"{door.url}/v1/decisions", content=payload, headers=given, timeout=60)

    return send


def assert_problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    first = {name: problem[name] for name in ("code", "field", "detail")}
    of_the_body = status == 422 and code != "idempotency_key_reused"
    assert problem.pop("errors", [None])[0] == (first if of_the_body else None)
    assert set(problem) == {"type", "title", "status", "detail", "code", "field", "request_id"}
    assert (problem["status"], problem["code"], problem["field"]) == (status, code, field)
    assert problem["request_id"] == answer.headers["x-amzn-requestid"]
    assert problem["detail"]


# ------------------------------------------------------------------------------------------ the printed line


def test_the_printed_line_decides_and_the_same_again_replays(served: Served) -> None:
    first = run_curl(served.running.curl)
    assert first.status_code == 200
    decision = first.json()
    assert decision["outcome"] in ("approved", "declined", "action_required")
    assert decision["livemode"] is False
    assert "Idempotent-Replayed" not in first.headers
    again = run_curl(served.running.curl)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    other = run_curl(served.running.curl.replace('"merchant_order_id": "', '"merchant_order_id": "x'))
    assert_problem(other, 422, "idempotency_key_reused")
    assert run_curl(served.running.curl).content == first.content


def test_the_printed_explanation_is_of_the_printed_checkout(served: Served) -> None:
    answer = run_curl(served.running.curl).json()
    line = next(line for line in served.running.stdout.splitlines() if " decisions explain " in line)
    command = line.replace(".venv/bin/candor", f"{sys.executable} -m cli", 1)
    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
    )
    assert answer["id"] in done.stdout
    assert answer["outcome"] in done.stdout


def test_the_printed_event_is_accepted_and_its_effect_is_shown(served: Served) -> None:
    """The two commands as a user pastes them; curl signs from 7.75 on."""
    lines = served.running.stdout.splitlines()
    send = next(line for line in lines if line.startswith("curl ") and "/v1/events" in line)
    words = shlex.split(next(line for line in lines if " features show " in line))
    before = printed(*words[1:])
    for _ in range(2):
        done = subprocess.run(["sh", "-c", send], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.startswith("HTTP/1.1 202"), done.stdout
        assert done.stdout.endswith('{"accepted":1}')
    deadline = time.monotonic() + 60
    while (after := printed(*words[1:]))["items"] == before["items"]:
        assert time.monotonic() < deadline, "the event was not applied"
    assert after["features"] != before["features"]


def test_the_documented_event_is_accepted_and_counted(served: Served) -> None:
    page = (ROOT / "docs/how-to/run-locally.md").read_text("utf-8").partition("## Send an event")[2]
    send, _, show = page.partition("```sh\n")[2].partition("```")[0].strip().rpartition("\n")
    words = [*shlex.split(show)[1:], "--state", str(served.running.state)]
    assert set(printed(*words)["features"].values()) <= {None, 0}
    command = send.replace("http://127.0.0.1:8080", served.running.url)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith('{"accepted":1}'), done.stdout
    deadline = time.monotonic() + 60
    while 1 not in printed(*words)["features"].values():
        assert time.monotonic() < deadline, "the event was not applied"


def test_no_key_of_any_kind(post: Post) -> None:
    assert_problem(post(None), 400, "missing_idempotency_key", "Idempotency-Key")
    assert_problem(post(""), 400, "missing_idempotency_key", "Idempotency-Key")
    assert_problem(post("x" * 256), 400, "invalid_idempotency_key", "Idempotency-Key")
    assert post("x" * 255).status_code == 200
    assert_problem(post("k", merchant_key=None), 401, "unauthorized")
    assert_problem(post("k", merchant_key="sk_test_of_nobody"), 401, "unauthorized")
    assert_problem(post("k", merchant_key=None, Authorization="Basic %%%"), 401, "unauthorized")
    assert_problem(post("k", merchant_key=None, Authorization=""), 401, "unauthorized")
    for refused in (post("k", merchant_key=None), post("k", merchant_key="sk_test_of_nobody")):
        assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_unknown_routes_and_unsigned_publication(served: Served) -> None:
    url = served.running.url
    assert_problem(httpx.post(f"{url}/v1/decision", json={}), 404, "not_found")
    unsigned = httpx.post(f"{url}/v1/events", json={"events": []})
    assert unsigned.status_code in (403, 404)
    assert_problem(unsigned, unsigned.status_code, unsigned.json()["code"])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/decisions", "POST"),
        ("/v1/decisions/dec_1", "GET"),
        ("/v1/events", "POST"),
        ("/internal/decisions/dec_1", "GET"),
        ("/health", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_and_says_which_it_takes(
    served: Served, path: str, allowed: str
) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - {allowed}:
        answer = httpx.request(method, served.running.url + path)
        assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


def test_the_health_check_needs_no_key(served: Served) -> None:
    answer = httpx.get(f"{served.running.url}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["Content-Type"] == "application/json"


def test_a_body_that_is_not_json_by_its_content_type(post: Post) -> None:
    for sent in ("text/plain", "application/x-www-form-urlencoded"):
        answer = post("typed", Content_Type=sent)
        assert_problem(answer, 415, "unsupported_media_type", "Content-Type")
        assert answer.headers["Accept"] == "application/json"
    assert post("typed", Content_Type="application/json; charset=utf-8").status_code == 200


def test_every_fault_of_a_body_is_in_one_answer(post: Post, body: dict[str, Any]) -> None:
    content = json.dumps({**body, "total": -5, "country": "ZZ", "currency": "JPY", "applicant": {}}).encode()
    answer = post("faults", content)
    assert [(fault["code"], fault["field"]) for fault in answer.json()["errors"]] == [
        ("invalid_field", "total"),
        ("missing_field", "applicant.token"),
        ("unsupported_currency", "currency"),
        ("unsupported_country", "country"),
    ]


def test_a_merchant_in_the_body_is_refused_as_any_unknown_field(post: Post, body: dict[str, Any]) -> None:
    content = json.dumps({**body, "merchant_id": "mer_other"}).encode()
    assert_problem(post("merchant-in-body", content), 422, "invalid_field", "merchant_id")


# ------------------------------------------------------------------------------------------------ bad input

NOT_JSON = [
    b"",
    b"{",
    b"not json",
    b"\x00\xff\xfe\x80",
    b'{"checkout_id": "\xff"}',
    "{}".encode("utf-16"),
    b'{"total": NaN}',
]


@pytest.mark.parametrize("content", NOT_JSON, ids=lambda content: repr(content[:12]))
def test_bytes_that_are_not_json(post: Post, content: bytes) -> None:
    assert_problem(post("not-json", content), 400, "malformed_json")


CHANGES: list[tuple[dict[str, Any], str, str]] = [
    ({"total": -5}, "invalid_field", "total"),
    ({"total": 0}, "invalid_field", "total"),
    ({"total": 10.5}, "invalid_field", "total"),
    ({"total": "1000"}, "invalid_field", "total"),
    ({"total": True}, "invalid_field", "total"),
    ({"total": 10**30}, "invalid_field", "total"),
    ({"total": None}, "invalid_field", "total"),
    ({"tax_amount": -1}, "invalid_field", "tax_amount"),
    ({"shipping_amount": 0.1}, "invalid_field", "shipping_amount"),
    ({"tax_amount": 1}, "total_mismatch", "total"),
    ({"items": []}, "invalid_field", "items"),
    (
        {"items": [{"sku": "a", "category": "b", "unit_price": -1, "qty": 1}]},
        "invalid_field",
        "items[0].unit_price",
    ),
    ({"currency": "XXQ"}, "unknown_currency", "currency"),
    ({"currency": "ngn"}, "unknown_currency", "currency"),
    ({"currency": 566}, "invalid_field", "currency"),
    ({"country": "Nigeria"}, "invalid_field", "country"),
    ({"country": "ZZ"}, "unsupported_country", "country"),
    ({"currency": "JPY"}, "unsupported_currency", "currency"),
    (
        {"offer": {"product": "pay_in_nirvana", "installments": 4, "period_days": 14}},
        "unsupported_product",
        "offer.product",
    ),
    ({"applicant": {}}, "missing_field", "applicant.token"),
    ({"applicant": {"token": ""}}, "invalid_field", "applicant.token"),
    ({"occurred_at": "2999-01-01T00:00:00Z"}, "occurred_in_future", "occurred_at"),
    ({"occurred_at": "yesterday"}, "invalid_timestamp", "occurred_at"),
    ({"surprise": 1}, "invalid_field", "surprise"),
]


@pytest.mark.parametrize(("change", "code", "field"), CHANGES, ids=lambda value: str(value)[:40])
def test_a_field_that_cannot_be(
    post: Post, body: dict[str, Any], change: dict[str, Any], code: str, field: str
) -> None:
    assert_problem(post("bad-field", json.dumps({**body, **change}).encode()), 422, code, field)


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b'"text"', b"12", b"[" * 30_000], ids=lambda c: repr(c[:6])
)
def test_json_that_is_no_object(post: Post, content: bytes) -> None:
    assert_problem(post("no-object", content), 422, "invalid_field")


def test_refusals_decide_nothing_and_use_up_no_key(post: Post) -> None:
    for key in ("not-json", "bad-field"):
        answer = post(key)
        assert answer.status_code == 200
        assert "Idempotent-Replayed" not in answer.headers


def test_64_kilobytes_are_the_limit(post: Post, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    assert_problem(post("large", content.ljust(LIMIT + 1)), 413, "body_too_large")
    assert_problem(post("large", b"x" * (11 << 20)), 413, "too_large")
    assert post("large", content.ljust(LIMIT)).status_code == 200


def test_the_replay_clock_takes_moments_only(post: Post) -> None:
    for moment in ("now", "2999", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"):
        answer = post("moment", Candor_Replay_At=moment)
        assert_problem(answer, 400, "invalid_replay_moment", "Candor-Replay-At")
    at = "2017-07-25T12:00:00Z"
    first = post("moment", Candor_Replay_At=at)
    assert first.status_code == 200
    assert first.json()["expires_at"] in (None, "2017-07-25T13:00:00.000Z")
    assert post("moment", Candor_Replay_At=at).content == first.content
    assert_problem(post("moment", Candor_Replay_At="2017-07-25T12:00:01Z"), 422, "idempotency_key_reused")


def test_a_killed_scorer_loses_nothing(served: Served, post: Post) -> None:
    first = post("before-kill")
    assert first.status_code == 200
    workers = served.running.workers("score")
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    again, following = post("before-kill"), post("after-kill")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert following.status_code == 200
    assert "Idempotent-Replayed" not in following.headers
    assert left_of(workers) == []
    assert not set(served.running.workers("score")) & set(workers)


# ------------------------------------------------------------------------------------------------- the queue


def event(event_id: str, **changes: Any) -> dict[str, Any]:
    amounts = {"loan_id": "loan_q", "installment": 1, "amount": 1000, "currency": "NGN", "days_late": 0}
    return {
        "event_id": event_id,
        "type": "payment.succeeded",
        "occurred_at": "2017-08-01T00:00:00Z",
        "schema_version": 1,
        "entities": {"customer": "queue_guest", "merchant": "mer_queue"},
        "data": amounts,
    } | changes


def test_an_event_that_cannot_be_applied_goes_to_the_dead_letters_and_its_neighbours_are_applied(
    served: Served,
) -> None:
    account = served.account
    bus = next(
        item["Name"]
        for item in account.client("events").list_event_buses()["EventBuses"]
        if item["Name"] != "default"
    )
    bad = {
        "unknown type": event("evt_q1", type="weather.changed"),
        "fraction": event("evt_q2", data={**event("x")["data"], "amount": 10.5}),
        "future": event("evt_q3", occurred_at="2999-01-01T00:00:00Z"),
        "no entities": {"event_id": "evt_q4"},
    }
    good = [event("evt_q5"), event("evt_q6"), event("evt_q5")]
    details = [good[0], *bad.values(), *good[1:]]
    answer = account.client("events").put_events(
        Entries=[
            {
                "Source": "candor.lender",
                "DetailType": "payment.succeeded",
                "Detail": json.dumps(detail),
                "EventBusName": bus,
            }
            for detail in details
        ]
    )
    assert answer["FailedEntryCount"] == 0
    deadline = time.monotonic() + 30
    while sum(account.queues().values()) != len(bad) or not applied(served, "queue_guest"):
        assert time.monotonic() < deadline, account.queues()
        time.sleep(0.05)
    for state in applied(served, "queue_guest"):
        assert [row[1] for row in state["base"].head] == ["evt_q5", "evt_q6"]
    where = ("--local", "--state", str(served.running.state))
    letters = printed("dlq", "show", "EventsDlq", *where)["letters"]
    assert {letter["code"] for letter in letters} >= {"unknown_event_type"}
    assert printed("dlq", "redrive", "EventsDlq", *where)["moved"] == len(bad)
    deadline = time.monotonic() + 30
    while printed("dlq", "list", *where)["queues"][0]["letters"] != len(bad):
        assert time.monotonic() < deadline, "what was refused is refused again"
    assert reasons(served, len(bad)) == {"evt_q1", "evt_q2", "evt_q3", "evt_q4"}


def applied(served: Served, customer: str) -> list[dict[str, Any]]:
    features = served.account.contents().features
    return [state for key, state in features.items() if key.endswith(f"#{customer}")]


def reasons(served: Served, count: int) -> set[str]:
    """Ids of the dead letters, each of which has its reason; deletes them."""
    sqs, ids = served.account.client("sqs"), set[str]()
    (url,) = (
        url for url in sqs.list_queues()["QueueUrls"] if "eventsdlq" in url.lower() or "dead" in url.lower()
    )
    while len(ids) < count:
        for letter in sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )["Messages"]:
            attributes = {
                name: attribute["StringValue"] for name, attribute in letter["MessageAttributes"].items()
            }
            assert attributes["code"]
            assert attributes["detail"]
            ids.add(json.loads(letter["Body"])["detail"]["event_id"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"])
    return ids
