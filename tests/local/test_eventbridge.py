"""The bus and its two kinds of target: an accepted event is journaled once for each."""

import gzip
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.aws.eventbridge import Buses, EventBus, InputTemplate, Rule, Target
from local.aws.firehose import DeliveryStream, Destination
from local.aws.sqs import DurableQueue
from local.state import Journal

HOUR = 3_600_000


class Bucket(dict[str, bytes]):
    """Counts writes; `broken` fails after the write, as a crash before the answer would."""

    broken = False
    writes = 0

    def put(self, bucket: str, key: str, content: bytes) -> None:
        self.writes += 1
        self[f"{bucket}/{key}"] = content
        if self.broken:
            raise OSError("gone")

    def lines(self) -> list[Any]:
        return [
            json.loads(line)
            for _, body in sorted(self.items())
            for line in gzip.decompress(body).splitlines()
        ]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def stream(journal: Journal, bucket: Bucket, **settings: Any) -> DeliveryStream:
    destination = Destination("archive", "events/", compressed=True, delimiter=b"\n", **settings)
    return DeliveryStream("stream", destination, journal, bucket.put)


def entry(n: int, **changes: Any) -> dict[str, Any]:
    detail = json.dumps({"event_id": f"evt_{n}", "n": n}, indent=2)
    return {"Source": "test", "DetailType": "made", "Detail": detail, "EventBusName": "bus", **changes}


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def bus(journal: Journal, bucket: Bucket) -> EventBus:
    bus = EventBus("bus", "arn:aws:events:eu-west-1:1:event-bus/bus", "1", "eu-west-1", journal)
    queue = DurableQueue("queue", "arn:aws:sqs:eu-west-1:1:queue", journal)
    sinks = (queue, stream(journal, bucket))
    bus.rules = [Rule(type(sink).__name__, {"source": ["test"]}, (Target(sink),)) for sink in sinks]
    return bus


def sinks(bus: EventBus) -> tuple[Any, Any]:
    return bus.rules[0].targets[0].sink, bus.rules[1].targets[0].sink


def test_an_event_reaches_queue_and_archive_with_the_same_envelope(bus: EventBus, bucket: Bucket) -> None:
    results = bus.put_events([entry(1, Time=1_500_000_000.0), entry(2)])
    queue, archive = sinks(bus)
    messages = [json.loads(message.body) for message in queue.receive(10)]
    assert [message["id"] for message in messages] == [result["EventId"] for result in results]
    assert messages[0]["detail"] == {"event_id": "evt_1", "n": 1}
    assert messages[0]["time"] == "2017-07-14T02:40:00Z"
    assert (messages[0]["detail-type"], messages[0]["source"]) == ("made", "test")
    assert archive.flush() == 1
    assert bucket.lines() == messages


def test_refused_entries_do_not_stop_their_neighbours(bus: EventBus) -> None:
    bad = [entry(0, Detail="{"), entry(0, Detail='"text"'), entry(0, Detail='{"a":NaN}'), entry(0, Source="")]
    results = bus.put_events([*bad, entry(1)])
    codes = [result.get("ErrorCode") for result in results]
    assert codes == ["MalformedDetail", "MalformedDetail", "MalformedDetail", "InvalidArgument", None]
    assert len(sinks(bus)[0]) == 1


def test_rules_choose(journal: Journal) -> None:
    plain = Rule("plain", {"source": ["a", "b"], "detail-type": ["x"]}, ())
    deep = Rule("deep", {"detail": {"amount": [{"numeric": [">", 5]}]}}, ())
    event = {"source": "b", "detail-type": "x", "detail": {"amount": 6}}
    assert plain.matches(event)
    assert not plain.matches({**event, "source": "c"})
    assert deep.matches(event)
    assert not deep.matches({**event, "detail": {"amount": 5}})


def test_several_buses_and_an_unknown_one(bus: EventBus) -> None:
    buses = Buses()
    buses.add(bus)
    results = buses.put_events([entry(1), entry(2, EventBusName="nowhere"), entry(3, EventBusName=bus.arn)])
    assert all("EventId" in result for result in results)
    assert len(sinks(bus)[0]) == 2


TIME = "aws.events.event.ingestion-time"


@pytest.mark.parametrize("stamp", [f"<{TIME}>", f'"<{TIME}>"'])
def test_input_templates_wrap_the_event(stamp: str) -> None:
    template = InputTemplate(f'{{"at":{stamp},"e":<aws.events.event.json>}}')
    hostile = json.dumps({"a": f'<{TIME}><aws.events.event.json>"\\'})
    target_input = json.loads(template.text(hostile, "2027-01-15T08:00:00Z"))
    assert target_input == {"at": "2027-01-15T08:00:00Z", "e": json.loads(hostile)}


def test_a_variable_within_a_text_gets_no_quotes() -> None:
    template = InputTemplate(f'{{"a":"say \\"<{TIME}>\\"","b":<{TIME}>}}')
    assert json.loads(template.text("{}", "noon")) == {"a": 'say "noon"', "b": "noon"}


@pytest.mark.parametrize(
    "template", ['{"e":<name>}', '{"e":<aws.events.event>}', '"<aws.events.event.json>"']
)
def test_a_variable_that_eventbridge_would_fill_otherwise_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="is not supported there"):
        InputTemplate(template)


def test_no_producer_sets_the_time_of_ingestion(bus: EventBus, bucket: Bucket) -> None:
    stamped = InputTemplate(f'{{"ingestion_time":<{TIME}>,"event":<aws.events.event.json>}}')
    queue, archive = sinks(bus)
    bus.rules[1] = Rule("archive", {"source": ["test"]}, (Target(archive, stamped),))
    before = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    bus.put_events([entry(1, Time=1_500_000_000.0), entry(2)])
    after = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    archive.flush()
    dated, plain = bucket.lines()
    assert dated["event"] == json.loads(queue.receive(1)[0].body)
    assert dated["event"]["time"] == "2017-07-14T02:40:00Z"
    assert before <= dated["ingestion_time"] == plain["ingestion_time"] == plain["event"]["time"] <= after


def test_a_crash_between_writing_and_forgetting_repeats_no_record(journal: Journal, bucket: Bucket) -> None:
    archive = stream(journal, bucket)
    with journal.transaction() as db:
        archive.stage(db, ['{"n":1}', '{"n":2}'])
    bucket.broken = True
    with pytest.raises(OSError, match="gone"):
        archive.flush()
    bucket.broken = False
    with journal.transaction() as db:
        archive.stage(db, ['{"n":3}'])
    stream(journal, bucket).flush()
    assert [line["n"] for line in bucket.lines()] == [1, 2, 3]
    assert stream(journal, bucket).flush() == 0


def test_objects_are_split_by_size_and_by_hour(journal: Journal, bucket: Bucket) -> None:
    archive = stream(journal, bucket, size=20)
    with journal.transaction() as db:
        archive.stage(db, [json.dumps({"n": n}) for n in range(6)])
        db.execute(
            "UPDATE records SET arrived_at = arrived_at - ? WHERE seq <= ?", (HOUR, journal.numbers(1)[0] - 4)
        )
    assert archive.flush() == 4
    assert len(bucket.lines()) == 6
    assert len({key.rsplit("/", 1)[0] for key in bucket}) == 2


def test_keys_follow_the_prefix_and_the_hour_of_arrival() -> None:
    at = int(datetime(2026, 11, 23, 16, 41, 7, tzinfo=UTC).timestamp() * 1000)
    plain = Destination("b", "events/", compressed=True).key("s", at, 1, 9)
    assert plain == "events/2026/11/23/16/s-1-2026-11-23-16-41-07-1-9.gz"
    custom = Destination("b", "e/y=!{timestamp:yyyy}/d=!{timestamp:dd}/").key("s", at, 1, 9)
    assert custom == "e/y=2026/d=23/s-1-2026-11-23-16-41-07-1-9"


def test_the_buffer_hints_deliver_without_being_asked(journal: Journal, bucket: Bucket) -> None:
    archive = stream(journal, bucket, interval_s=0.05)
    archive.start()
    with journal.transaction() as db:
        archive.stage(db, ['{"n":1}'])
    archive.appended(7)
    deadline = time.monotonic() + 10
    while not bucket and time.monotonic() < deadline:
        time.sleep(0.01)
    archive.close()
    assert [line["n"] for line in bucket.lines()] == [1]
    assert bucket.writes == 1
