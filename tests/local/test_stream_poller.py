"""Records from a stream to a function: in order, from the checkpoint on, never lost, discarded as configured."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.lambda_.service import Invocation
from local.lambda_.stream_poller import StreamMapping, StreamPoller
from local.state import Journal

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/items/stream/1"

Records = list[dict[str, Any]]


class MemoryStream:
    """The stream's contract in memory."""

    arn, engine_arn, shard = ARN, "engine", "shard-1"

    def __init__(self, count: int = 0) -> None:
        self.records: Records = []
        self.sought: list[str | None] = []
        self.broken = 0
        self.closed = False
        self._place = 0
        self.write(count)

    def write(self, count: int, at_s: float | None = None, **image: Any) -> None:
        for number in range(len(self.records) + 1, len(self.records) + count + 1):
            change = {"SequenceNumber": str(number), "ApproximateCreationDateTime": at_s or time.time()}
            change |= {"Keys": {"pk": {"S": f"k{number}"}}, "NewImage": image}
            self.records.append({"eventName": "INSERT", "eventSourceARN": ARN, "dynamodb": change})

    def seek(self, after: str | None) -> None:
        self.sought.append(after)
        self._place = int(after or 0)

    def read(self, limit: int) -> Records:
        if self.broken:
            self.broken -= 1
            raise OSError("the engine is gone")
        records = self.records[self._place : self._place + limit]
        self._place += len(records)
        return records

    def close(self) -> None:
        self.closed = True


def numbers(records: Records) -> list[int]:
    return [int(record["dynamodb"]["SequenceNumber"]) for record in records]


class Function:
    """Answers by `handler(records)` and keeps the sequence numbers that it was given, by batch."""

    def __init__(self, handler: Callable[[Records], Any] = lambda records: None) -> None:
        self.handler = handler
        self.batches: list[list[int]] = []

    def __call__(self, name: str, payload: bytes) -> Invocation:
        assert name == "log"
        records = json.loads(payload)["Records"]
        self.batches.append(numbers(records))
        try:
            answer = self.handler(records)
        except ValueError:
            return Invocation(b'{"errorType":"ValueError"}', "ValueError", "r")
        return Invocation(json.dumps(answer).encode(), None, "r")

    @property
    def seen(self) -> list[int]:
        return [number for batch in self.batches for number in batch]


def named(*failed: int) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": str(number)} for number in failed]}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture
def follow(journal: Journal) -> Iterator[Callable[..., StreamPoller]]:
    started: list[StreamPoller] = []

    def start(stream: Any, invoke: Any, size: int = 10, **settings: Any) -> StreamPoller:
        mapping = StreamMapping(function="log", batch_size=size, **{"partial": True, **settings})
        poller = StreamPoller(stream, mapping, invoke, journal)
        started.append(poller)
        poller.start()
        return poller

    yield start
    for poller in started:
        poller.stop()


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.lambda_.stream_poller.ERROR_PAUSE_S", 0.01)
    monkeypatch.setattr("local.lambda_.queue_poller._FIRST_RETRY_S", 0.001)


def test_everything_is_handed_over_once_in_order(follow: Callable[..., StreamPoller]) -> None:
    stream, function = MemoryStream(95), Function()
    poller = follow(stream, function, 10)
    assert poller.settle(10)
    assert function.seen == list(range(1, 96))
    assert [len(batch) for batch in function.batches] == [10] * 9 + [5]
    stream.write(3)
    assert poller.settle(10)
    assert function.seen == list(range(1, 99))
    assert stream.sought == [None]


def test_a_restart_goes_on_where_the_last_batch_was_settled(follow: Callable[..., StreamPoller]) -> None:
    stream, function = MemoryStream(20), Function()
    first = follow(stream, function)
    assert first.settle(10)
    first.stop()
    assert stream.closed
    stream.write(5)
    assert follow(stream, function).settle(10)
    assert function.seen == list(range(1, 26))
    assert stream.sought == [None, "20"]


def test_what_was_under_way_when_it_was_killed_comes_again(
    follow: Callable[..., StreamPoller], journal: Journal
) -> None:
    """The process dies after the function has answered and before the journal has it."""

    class Killed(BaseException):
        pass

    stream, function = MemoryStream(20), Function()
    poller = StreamPoller(stream, StreamMapping(function="log", batch_size=10), function, journal)
    poller.stream.seek(None)
    poller._hand_over(stream.read(10))

    def killed(name: str, payload: bytes) -> Invocation:
        function(name, payload)
        raise Killed

    poller._invoke = killed
    with pytest.raises(Killed):
        poller._hand_over(stream.read(10))
    assert follow(stream, function).settle(10)
    assert function.seen == [*range(1, 11), *range(11, 21), *range(11, 21)]


def test_a_batch_comes_back_from_the_first_that_failed(follow: Callable[..., StreamPoller]) -> None:
    answers = iter([named(7, 4), named(4), named()])
    stream, function = MemoryStream(9), Function(lambda _: next(answers))
    assert follow(stream, function).settle(10)
    assert function.batches == [list(range(1, 10)), list(range(4, 10)), list(range(4, 10))]


def test_a_batch_that_fails_as_a_whole_is_halved_until_the_bad_one_is_alone(
    follow: Callable[..., StreamPoller],
) -> None:
    given_up: list[str] = []

    def handler(records: Records) -> None:
        if 6 in numbers(records):
            raise ValueError

    stream, function = MemoryStream(8), Function(handler)
    poller = follow(stream, function, bisect=True, max_retries=2, give_up=given_up.append)
    assert poller.settle(10)
    assert function.batches == [
        [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6], [5], [6], [6], [6], [7, 8],
    ]  # fmt: skip
    [notice] = [json.loads(text) for text in given_up]
    assert notice["requestContext"]["condition"] == "RetryAttemptsExhausted"
    batch_info = notice["DDBStreamBatchInfo"]
    assert [batch_info[name] for name in ("startSequenceNumber", "endSequenceNumber", "batchSize")] == [
        "6",
        "6",
        1,
    ]
    assert (batch_info["shardId"], batch_info["streamArn"]) == ("shard-1", ARN)


def test_what_is_too_old_is_passed_over_and_the_rest_is_not(follow: Callable[..., StreamPoller]) -> None:
    given_up: list[str] = []
    calls = itertools.count()

    def handler(records: Records) -> None:
        if next(calls) < 3:
            raise ValueError

    stream, function = MemoryStream(), Function(handler)
    stream.write(2, at_s=time.time() - 7_200)
    stream.write(2)
    assert follow(stream, function, max_age_s=3_600, give_up=given_up.append).settle(10)
    assert function.batches == [[1, 2, 3, 4], [3, 4], [3, 4], [3, 4]]
    [notice] = [json.loads(text) for text in given_up]
    assert notice["requestContext"]["condition"] == "RecordAgeExceeded"
    assert notice["DDBStreamBatchInfo"]["endSequenceNumber"] == "2"


@pytest.mark.parametrize("answer", [7, [1], {"batchItemFailures": [{}]}, named(99), {"batchItemFailures": 7}])
def test_a_malformed_answer_brings_the_whole_batch_back(
    follow: Callable[..., StreamPoller], answer: Any
) -> None:
    answers = iter([answer, None])
    stream, function = MemoryStream(3), Function(lambda _: next(answers))
    assert follow(stream, function).settle(10)
    assert function.batches == [[1, 2, 3], [1, 2, 3]]


def test_without_partial_responses_the_answer_is_not_read(follow: Callable[..., StreamPoller]) -> None:
    stream, function = MemoryStream(3), Function(lambda _: named(2))
    assert follow(stream, function, partial=False).settle(10)
    assert function.batches == [[1, 2, 3]]


def test_what_a_filter_leaves_out_invokes_nobody_and_is_not_read_again(
    follow: Callable[..., StreamPoller],
) -> None:
    stream, function = MemoryStream(30), Function()
    even = {"matches": lambda record: int(record["dynamodb"]["SequenceNumber"]) % 15 == 0}
    poller = follow(stream, function, **even)
    assert poller.settle(10)
    assert function.batches == [[15], [30]]
    stream.write(9)
    assert poller.settle(10)
    poller.stop()
    assert follow(stream, function, **even).settle(10)
    assert stream.sought == [None, "39"]


def test_an_engine_that_is_gone_for_a_while_is_read_again_from_the_checkpoint(
    follow: Callable[..., StreamPoller],
) -> None:
    stream, function = MemoryStream(5), Function()
    poller = follow(stream, function)
    assert poller.settle(10)
    stream.broken = 2
    stream.write(5)
    assert poller.settle(10)
    assert function.seen == list(range(1, 11))
    assert stream.sought == [None, "5", "5"]


def test_records_larger_together_than_a_request_go_in_several(follow: Callable[..., StreamPoller]) -> None:
    stream, function = MemoryStream(), Function()
    stream.write(9, text={"S": "x" * 1_800_000})
    assert follow(stream, function).settle(20)
    assert function.batches == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_settling_tells_when_it_took_too_long(follow: Callable[..., StreamPoller]) -> None:
    def broken(_: Records) -> None:
        raise ValueError

    assert not follow(MemoryStream(1), Function(broken)).settle(0.2)


def test_nobody_who_waits_is_kept_by_the_window(follow: Callable[..., StreamPoller]) -> None:
    stream, function = MemoryStream(1), Function()
    poller = follow(stream, function, window_s=3_600)
    assert poller.settle(10)
    stream.write(1)
    assert poller.settle(10)
    assert function.seen == [1, 2]
