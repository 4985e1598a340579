"""The signed client with a wrong clock: requests are signed again once, by the refusal's Date."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from candor.errors import StoreUnavailable
from candor.store.scorer import BundleSource, ScorerStore, read_secret
from candor.store.signed.client import AwsRequest, SignedClient
from tests.store.conftest import CREDENTIALS, REGION, point_at
from tests.store.scripted import DROP, HANG, Answer, ScriptedServer, Step, answer, error, serving

AMPLE_S = 5.0
SHORT_S = 0.3
TOLERANCE_S = 300
DYNAMODB = error("InvalidSignatureException", message="Signature expired")
S3 = Answer(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>")
SUCCESS = answer({"Responses": {}, "SecretString": "key"})
ASK = AwsRequest("POST", "/", {}, b"{}")


class Clocked(ScriptedServer):
    """Refuses as AWS does what was not signed within five minutes of its own clock, which is `ahead_s` of ours.

    `dated` is what its refusals say the time is; without it, the truth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0
        self.refusal = DYNAMODB
        self.dated: list[str | None] = []

    def next_step(self) -> Step:
        step = super().next_step()
        if step == DROP:
            return step
        now = datetime.now(UTC) + timedelta(seconds=self.ahead_s)
        signed = datetime.strptime(self.heads[-1]["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs((now - signed).total_seconds()) <= TOLERANCE_S:
            return step
        date = self.dated.pop(0) if self.dated else format_datetime(now, usegmt=True)
        headers = self.refusal.headers | ({} if date is None else {"Date": date})
        return Answer(self.refusal.status, self.refusal.body, headers)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocked]:
    with serving(Clocked()) as server:
        server.script = [SUCCESS]
        point_at(server.url, monkeypatch)
        for service in ("S3", "SECRETSMANAGER"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", server.url)
        yield server


@pytest.fixture
def client(aws: Clocked) -> Iterator[SignedClient]:
    client = SignedClient("dynamodb", REGION, CREDENTIALS)
    yield client
    client.close()


@pytest.mark.parametrize("ahead_s", [-86_400 * 400, -3_600, 3_600, 86_400 * 400])
def test_a_clock_that_is_off_costs_one_resend_once(aws, client, ahead_s):
    aws.ahead_s = ahead_s
    for _ in range(3):
        assert client.request(ASK, AMPLE_S).status == 200
    assert (len(aws.requests), aws.connections) == (4, 1)


def test_a_clock_that_is_off_again_is_corrected_again(aws, client):
    for ahead_s in (7_200, 0, -7_200):
        aws.ahead_s = ahead_s
        assert client.request(ASK, AMPLE_S).status == 200
    assert len(aws.requests) == 6


def test_a_clock_that_is_right_is_signed_by(aws, client):
    client.request(ASK, AMPLE_S)
    signed = datetime.strptime(aws.heads[0]["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    assert abs(signed - time.time()) < TOLERANCE_S / 10
    assert len(aws.requests) == 1


def test_store_bundles_and_the_secret_are_read_with_a_clock_that_is_off(aws, scorer_store, decision):
    aws.ahead_s = 7_200
    store: ScorerStore = scorer_store()
    assert store.read(["view@1#ann"], AMPLE_S).reads["view@1#ann"].state == "absent"
    aws.script = [answer({})]
    assert store.record(decision(), AMPLE_S) is None
    assert len(aws.requests) == 3
    aws.script = [Answer(SUCCESS.status, SUCCESS.body, then_close=True)]
    assert read_secret("arn", REGION, CREDENTIALS) == b"key"
    aws.refusal = S3
    with ExitStack() as closing:
        source = BundleSource(region=REGION, bucket="bundles-1", credentials=CREDENTIALS)
        closing.callback(source._client.close)
        assert json.loads(source.load("ab" * 32, AMPLE_S))["SecretString"] == "key"


@pytest.mark.parametrize(
    "date", [None, "", "soon", "Thu, 31 Feb 2026 10:00:00 GMT", "1764000000", "Thu, 01 Jan 1970 00:00:00 +0100", "\xff"]
)  # fmt: skip
def test_a_refusal_without_a_time_is_not_asked_again(aws, client, scorer_store, decision, date):
    aws.ahead_s = 7_200
    aws.dated = [date] * 9
    assert client.request(ASK, AMPLE_S).status == 400
    assert len(aws.requests) == 1
    with pytest.raises(StoreUnavailable, match="InvalidSignatureException"):
        scorer_store().record(decision(), AMPLE_S)


def test_a_time_that_is_wrong_is_tried_once_and_forgotten(aws, client):
    aws.ahead_s = 7_200
    aws.dated = ["Thu, 01 Jan 2037 00:00:00 GMT"] * 2
    assert client.request(ASK, AMPLE_S).status == 400
    assert len(aws.requests) == 2
    aws.ahead_s = 0
    assert client.request(ASK, AMPLE_S).status == 200
    assert len(aws.requests) == 3, "the clock is our own again"


@pytest.mark.parametrize("kind", ["InvalidSignatureException", "SignatureDoesNotMatch"])
def test_a_wrong_key_with_a_right_clock_is_not_sent_again(aws, client, kind):
    now = format_datetime(datetime.now(UTC), usegmt=True)
    refusal = error(kind)
    aws.script = [Answer(403, refusal.body, refusal.headers | {"Date": now})]
    assert client.request(ASK, AMPLE_S).status == 403
    assert len(aws.requests) == 1


@pytest.mark.parametrize(("status", "body"), [(400, b"ValidationException"), (500, DYNAMODB.body)])
def test_another_failure_with_another_time_leaves_the_clock(aws, client, status, body):
    aws.script = [Answer(status, body, {"Date": "Thu, 01 Jan 2037 00:00:00 GMT"}), SUCCESS]
    assert client.request(ASK, AMPLE_S).status == status
    assert client.request(ASK, AMPLE_S).status == 200
    assert len(aws.requests) == 2


def test_the_resend_has_what_is_left_of_the_time_limit(aws, client):
    aws.ahead_s = 7_200
    aws.script = [SUCCESS, HANG]
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        client.request(ASK, SHORT_S)
    assert time.monotonic() - started < AMPLE_S


def test_a_connection_that_broke_has_used_the_resend_up_and_the_time_is_kept(aws, client):
    client.request(ASK, AMPLE_S)
    aws.ahead_s = 7_200
    aws.script = [DROP, SUCCESS]
    assert client.request(ASK, AMPLE_S).status == 400
    assert len(aws.requests) == 3
    assert client.request(ASK, AMPLE_S).status == 200
    assert len(aws.requests) == 4
