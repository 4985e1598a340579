"""Batches from a queue to a function, with an in-memory queue and, at the end, a real function."""

import hashlib
import itertools
import json
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.lambda_.queue_poller import QueuePoller, retry_delay_s
from local.lambda_.service import FunctionSpec, Invocation, LambdaService

ARN = "arn:aws:sqs:eu-west-1:123456789012:events"


@dataclass(eq=False)
class Letter:
    id: str
    body: str
    sent_at: int = 1_700_000_000_000
    received: int = 0
    first_received_at: int | None = None
    receipt: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    visible_at: float = 0.0


class MemoryQueue:
    """The queue's contract in memory; `delays` records every message given back."""

    arn = ARN

    def __init__(self, bodies: Iterable[str] = ()) -> None:
        self.letters: dict[str, Letter] = {}
        self.delays: list[tuple[str, float]] = []
        self.receives = 0
        self.dead: list[str] = []
        self.max_receives = 1_000
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self.send(*bodies)

    def send(self, *bodies: str, **attributes: Any) -> None:
        with self._changed:
            for body in bodies:
                name = f"m{next(self._ids)}"
                self.letters[name] = Letter(name, body, receipt=name, attributes=attributes)
            self._changed.notify_all()

    def receive(self, limit: int, wait_s: float) -> list[Letter]:
        deadline = time.monotonic() + wait_s
        with self._changed:
            self.receives += 1
            while True:
                now = time.monotonic()
                visible = self._visible(limit, now)
                if visible or now >= deadline:
                    return visible
                soonest = min((letter.visible_at for letter in self.letters.values()), default=deadline)
                self._changed.wait(max(0.0, min(deadline, soonest) - now))

    def _visible(self, limit: int, now: float) -> list[Letter]:
        visible: list[Letter] = []
        for letter in list(self.letters.values()):
            if len(visible) == limit or letter.visible_at > now:
                continue
            if letter.received >= self.max_receives:
                self.dead.append(self.letters.pop(letter.id).body)
                self._changed.notify_all()
                continue
            letter.received += 1
            letter.visible_at = now + 3600
            visible.append(letter)
        return visible

    def delete(self, receipts: Iterable[str]) -> None:
        with self._changed:
            for receipt in receipts:
                self.letters.pop(receipt, None)
            self._changed.notify_all()

    def change_visibility(self, receipt: str, seconds: float) -> None:
        with self._changed:
            self.delays.append((receipt, seconds))
            self.letters[receipt].visible_at = time.monotonic() + seconds
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float = 20) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: not self.letters, timeout_s), self.letters


class Function:
    """Answers by `handler(records)` and records the batches it was given."""

    def __init__(self, handler: Callable[[list[dict[str, Any]]], Any] = lambda records: None) -> None:
        self.handler = handler
        self.batches: list[list[dict[str, Any]]] = []

    def __call__(self, name: str, payload: bytes) -> Invocation:
        assert name == "update"
        records = json.loads(payload)["Records"]
        self.batches.append(records)
        try:
            answer = self.handler(records)
        except ValueError:
            return Invocation(b'{"errorType":"ValueError","errorMessage":"broken"}', "ValueError", "r")
        return Invocation(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), None, "r")


@pytest.fixture
def poll() -> Iterator[Callable[..., QueuePoller]]:
    started: list[QueuePoller] = []

    def start(queue: Any, invoke: Any, *, size: int = 10, window: float = 0, **settings: Any) -> QueuePoller:
        poller = QueuePoller(queue, "update", size, window, invoke, **settings)
        started.append(poller)
        poller.start()
        return poller

    yield start
    for poller in started:
        poller.stop()


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.lambda_.queue_poller._LONG_POLL_S", 0.1)
    monkeypatch.setattr("local.lambda_.queue_poller.ERROR_PAUSE_S", 0.01)
    monkeypatch.setattr("local.lambda_.queue_poller._FIRST_RETRY_S", 0.01)


def failing(*bodies: str) -> Callable[[list[dict[str, Any]]], Any]:
    def handler(records: list[dict[str, Any]]) -> Any:
        failed = [record["messageId"] for record in records if record["body"] in bodies]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    return handler


def test_a_record_has_the_shape_that_lambda_gives_it(poll: Callable[..., QueuePoller]) -> None:
    queue, function = MemoryQueue(), Function()
    queue.send("é", message={"trace": {"DataType": "String", "StringValue": "t-1"}}, system={"x": {}})
    poll(queue, function)
    queue.wait_until_empty()
    assert function.batches == [
        [
            {
                "messageId": "m0",
                "receiptHandle": "m0",
                "body": "é",
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1700000000000",
                    "SenderId": "123456789012",
                    "ApproximateFirstReceiveTimestamp": "1700000000000",
                },
                "messageAttributes": {
                    "trace": {
                        "stringValue": "t-1",
                        "dataType": "String",
                        "stringListValues": [],
                        "binaryListValues": [],
                    }
                },
                "md5OfBody": hashlib.md5("é".encode()).hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": ARN,
                "awsRegion": "eu-west-1",
            }
        ]
    ]


def test_everything_is_delivered_once_in_full_batches(poll: Callable[..., QueuePoller]) -> None:
    bodies = [str(number) for number in range(1_000)]
    queue, function = MemoryQueue(bodies), Function()
    poll(queue, function, size=100, concurrency=2)
    queue.wait_until_empty()
    assert sorted(len(batch) for batch in function.batches) == [100] * 10
    assert Counter(record["body"] for batch in function.batches for record in batch) == Counter(bodies)


def test_only_the_named_messages_come_back_and_reach_the_dead_letters(
    poll: Callable[..., QueuePoller],
) -> None:
    queue, function = MemoryQueue(["a", "bad", "c"]), Function(failing("bad"))
    queue.max_receives = 5
    poll(queue, function)
    queue.wait_until_empty()
    assert queue.dead == ["bad"]
    seen = Counter(record["body"] for batch in function.batches for record in batch)
    assert seen == {"a": 1, "bad": 5, "c": 1}
    counts = [
        record["attributes"]["ApproximateReceiveCount"] for batch in function.batches for record in batch
    ]
    assert counts == ["1", "1", "1", "2", "3", "4", "5"]
    assert [delay for _, delay in queue.delays] == [0.01, 0.02, 0.04, 0.08, 0.16]


def test_the_delay_grows_and_stays_reasonable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.lambda_.queue_poller._FIRST_RETRY_S", 0.5)
    assert [retry_delay_s(received) for received in (0, 1, 2, 3, 6, 7, 5_000)] == [0.5, 0.5, 1, 2, 16, 20, 20]


def once(first: Callable[[], Any]) -> Callable[[list[dict[str, Any]]], Any]:
    calls = itertools.count()
    return lambda records: first() if next(calls) == 0 else None


def broken() -> Any:
    raise ValueError


@pytest.mark.parametrize(
    "first",
    [
        broken,
        lambda: b"not json",
        lambda: [1],
        lambda: {"batchItemFailures": [{}]},
        lambda: {"batchItemFailures": [{"itemIdentifier": ""}]},
        lambda: {"batchItemFailures": [{"itemIdentifier": None}]},
        lambda: {"batchItemFailures": [{"itemIdentifier": "of another batch"}]},
        lambda: {"batchItemFailures": 7},
    ],
    ids="error no-json list no-name empty-name null-name foreign-name number".split(),
)
def test_a_failure_or_a_malformed_answer_brings_the_whole_batch_back(
    poll: Callable[..., QueuePoller], first: Callable[[], Any]
) -> None:
    queue, function = MemoryQueue(["a", "b", "c"]), Function(once(first))
    poll(queue, function, concurrency=1)
    queue.wait_until_empty()
    assert [record["body"] for record in function.batches[0]] == ["a", "b", "c"]
    assert sorted(record["body"] for batch in function.batches[1:] for record in batch) == ["a", "b", "c"]


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}, ""])
def test_an_empty_answer_is_a_success(poll: Callable[..., QueuePoller], answer: Any) -> None:
    queue, function = MemoryQueue(["a"]), Function(lambda records: answer)
    poll(queue, function)
    queue.wait_until_empty()
    assert len(function.batches) == 1


def test_without_partial_responses_the_answer_is_not_read(poll: Callable[..., QueuePoller]) -> None:
    queue, function = MemoryQueue(["bad"]), Function(failing("bad"))
    poll(queue, function, partial=False)
    queue.wait_until_empty()
    assert len(function.batches) == 1


def test_a_service_that_raises_brings_the_batch_back(poll: Callable[..., QueuePoller]) -> None:
    queue, function, calls = MemoryQueue(["a"]), Function(), itertools.count()

    def invoke(name: str, payload: bytes) -> Invocation:
        if next(calls) == 0:
            raise LookupError("no function update is registered")
        return function(name, payload)

    poll(queue, invoke)
    queue.wait_until_empty()
    assert len(function.batches) == 1


def test_a_queue_in_trouble_is_polled_again(poll: Callable[..., QueuePoller]) -> None:
    class Troubled(MemoryQueue):
        def receive(self, limit: int, wait_s: float) -> list[Letter]:
            if self.receives == 0:
                self.receives = 1
                raise OSError("disk full")
            return super().receive(limit, wait_s)

        def change_visibility(self, receipt: str, seconds: float) -> None:
            super().change_visibility(receipt, seconds)
            if receipt == "m0":
                raise OSError("disk full")

    queue, function = Troubled(["a", "b"]), Function(once(broken))
    poll(queue, function, concurrency=1)
    queue.wait_until_empty()
    assert [receipt for receipt, _ in queue.delays] == ["m0", "m1"]


def test_a_window_waits_for_more(poll: Callable[..., QueuePoller]) -> None:
    queue, function = MemoryQueue(["a"]), Function()
    poll(queue, function, size=3, window=30, concurrency=1)
    queue.send("b")
    queue.send("c")
    queue.wait_until_empty()
    assert [[record["body"] for record in batch] for batch in function.batches] == [["a", "b", "c"]]


def test_a_window_ends_without_more(poll: Callable[..., QueuePoller]) -> None:
    queue, function = MemoryQueue(["a"]), Function()
    poll(queue, function, size=3, window=0.2, concurrency=1)
    queue.wait_until_empty()
    assert len(function.batches) == 1


def test_never_more_batches_at_once_than_the_concurrency(poll: Callable[..., QueuePoller]) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def handler(records: list[dict[str, Any]]) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    queue = MemoryQueue(map(str, range(20)))
    poll(queue, Function(handler), size=1, concurrency=3)
    queue.wait_until_empty()
    assert most == [3]


def test_stop_lets_the_batch_under_way_finish_and_takes_no_other(poll: Callable[..., QueuePoller]) -> None:
    begun, release = threading.Event(), threading.Event()

    def handler(records: list[dict[str, Any]]) -> None:
        begun.set()
        assert release.wait(10)

    queue, function = MemoryQueue(["a", "b"]), Function(handler)
    poller = poll(queue, function, size=1, concurrency=1)
    assert begun.wait(10)
    stopper = threading.Thread(target=poller.stop)
    stopper.start()
    time.sleep(0.05)
    assert stopper.is_alive()
    release.set()
    stopper.join()
    assert [letter.body for letter in queue.letters.values()] == ["b"]
    assert len(function.batches) == 1


def test_stop_does_not_wait_for_a_window(poll: Callable[..., QueuePoller]) -> None:
    queue, function = MemoryQueue(["a"]), Function()
    poller = poll(queue, function, size=3, window=3_600, concurrency=1)
    while queue.receives < 2:
        time.sleep(0.001)
    poller.stop()
    assert not queue.letters
    QueuePoller(queue, "update", 1, 0, function).stop()


def test_an_idle_poller_waits_in_the_queue(poll: Callable[..., QueuePoller]) -> None:
    queue = MemoryQueue()
    poll(queue, Function(), concurrency=1)
    time.sleep(0.5)
    assert queue.receives <= 7


def test_records_larger_together_than_a_request_go_in_several(poll: Callable[..., QueuePoller]) -> None:
    queue, function = MemoryQueue(['"' * 900_000] * 9), Function()
    poll(queue, function, concurrency=1)
    queue.wait_until_empty()
    assert [len(batch) for batch in function.batches] == [3, 3, 3]


def test_a_lone_surrogate_does_not_hold_up_its_neighbours(poll: Callable[..., QueuePoller]) -> None:
    queue, function = MemoryQueue(["a", "\ud800", "b"]), Function()
    poll(queue, function)
    queue.wait_until_empty()
    assert len(function.batches[0]) == 3


def test_a_real_function_updates_from_the_queue(tmp_path: Path, poll: Callable[..., QueuePoller]) -> None:
    handler = """
        def handler(event, context):
            failed = [r["messageId"] for r in event["Records"] if r["body"] == "bad"]
            with open("seen", "a") as seen:
                seen.writelines(r["body"] + "\\n" for r in event["Records"] if r["messageId"] not in failed)
            return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}
    """
    code = tmp_path / "code"
    code.mkdir()
    (code / "handler.py").write_text(textwrap.dedent(handler))
    bodies = [str(number) for number in range(500)]
    queue = MemoryQueue([*bodies[:250], "bad", *bodies[250:]])
    queue.max_receives = 2
    with LambdaService(tmp_path / "logs") as service:
        service.register(FunctionSpec("update", "handler.handler", code, timeout_s=10, concurrency=2))
        poller = poll(queue, service.invoke, size=100, concurrency=2)
        queue.wait_until_empty()
        poller.stop()
    assert Counter((code / "seen").read_text().split()) == Counter(bodies)
    assert queue.dead == ["bad"]
