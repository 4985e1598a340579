"""Stream records → lines: exact bytes, skipped and unreadable records, and the redelivered position."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from candor.edge.streams import (
    RECORD_BYTES,
    archive,
    batch_failures,
    commit_line,
    dead_letter,
    decision_line,
    decision_record,
    parse_records,
)
from candor.errors import InvalidInput
from candor.store.protocol import marker_key
from history.archive.commits import Commit

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/features/stream/2026-11-24T00:00:00.000"


def binary(content: bytes) -> dict[str, str]:
    return {"B": b64encode(content).decode()}


def record(image: dict[str, Any] | None, number: int = 1, name: str = "INSERT") -> dict[str, Any]:
    change: dict[str, Any] = {"Keys": {"pk": {"S": "v@1#ann"}}, "SequenceNumber": str(number)}
    if image is not None:
        change["NewImage"] = image
    return {"eventName": name, "eventSource": "aws:dynamodb", "eventSourceARN": ARN, "dynamodb": change}


def commit(**changes: Any) -> dict[str, Any]:
    image: dict[str, Any] = {
        "pk": {"S": "v@1#ann"},
        "b": binary(b"\x03state"),
        "vb": {"N": "1795490000000000123"},
        "vn": {"N": "7"},
        "u": {"N": "1795490000123"},
        "ids": binary(b'["e1","e2~void"]'),
        "ttl": {"N": "1900000000"},
    }
    return {name: value for name, value in (image | changes).items() if value is not None}


def decision(**changes: Any) -> dict[str, Any]:
    image: dict[str, Any] = {
        "pk": {"S": "dec_a"},
        "q": {"N": "1795490000123"},
        "r": binary(b'{"id":"dec_a","outcome":"approved"}'),
        "a": binary(b"{}"),
    }
    return {name: value for name, value in (image | changes).items() if value is not None}


def test_a_commits_line_is_what_the_readers_of_the_log_expect():
    line = commit_line(record(commit(), name="MODIFY"))
    assert line == (
        b'{"key":"v@1#ann","birth":1795490000000000123,"n":7,"applied_at":1795490000123,'
        b'"event_ids":["e1","e2~void"]}'
    )
    read = msgspec.json.decode(line, type=Commit, strict=True)
    assert read == Commit("v@1#ann", 1795490000000000123, 7, 1795490000123, ["e1", "e2~void"])


def test_the_log_says_what_was_filled_from_the_archive_and_what_was_computed_anew():
    line = commit_line(record(commit(ids=binary(b"[]"), fb={"N": "1795480000000"}, rb={"BOOL": True})))
    assert line is not None
    read = msgspec.json.decode(line, type=Commit, strict=True)
    assert (read.filled_before, read.rebuilt, read.left_out) == (1795480000000, True, False)


def test_the_log_says_what_was_left_out():
    line = commit_line(record(commit(lo={"BOOL": True})))
    assert line is not None
    assert msgspec.json.decode(line, type=Commit, strict=True).left_out


def test_markers_and_what_was_removed_are_no_commits():
    marker = {"pk": {"S": marker_key("v@1#ann", "e1")}, "ttl": {"N": "1900000000"}}
    assert commit_line(record(marker)) is None
    assert commit_line(record(None, name="REMOVE")) is None


def test_a_commit_without_events_is_logged_all_the_same():
    assert json.loads(commit_line(record(commit(ids=binary(b"[]")))) or b"")["event_ids"] == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ids": None}, "ids"),
        ({"u": None}, "u"),
        ({"vb": {"S": "canary"}}, "N"),
        ({"vn": {"N": "canary"}}, None),
        ({"ids": binary(b"canary")}, None),
        ({"ids": binary(b'{"canary":1}')}, None),
        ({"ids": {"B": "can ary"}}, None),
        ({"ids": {"B": 7}}, None),
    ],
    ids="no-ids no-moment text word no-json an-object no-base64 a-number".split(),
)
def test_an_item_of_another_shape_is_named_without_its_content(changes, field):
    with pytest.raises(InvalidInput) as refused:
        commit_line(record(commit(**changes)))
    assert (refused.value.code, refused.value.field) == ("unreadable_record", field)
    assert "canary" not in str(refused.value)


def test_a_decisions_line_holds_the_record_byte_for_byte():
    odd = '{"id":"dec_a", "values":[0.1,null,1e300],"name":"é"}'.encode()
    line = decision_line(record(decision(r=binary(odd))))
    assert line == b'{"id":"dec_a","q":1795490000123,"record":' + odd + b"}"
    assert decision_record(record(decision(r=binary(odd)))) == odd


@pytest.mark.parametrize(
    "changes", [{"r": None}, {"q": None}, {"r": binary(b"[]")}, {"r": binary(b"{")}, {"r": binary(b"\xff")}]
)
def test_a_decision_of_another_shape_is_refused(changes):
    with pytest.raises(InvalidInput, match="unreadable_record"):
        decision_line(record(decision(**changes)))


def test_one_that_cannot_be_read_does_not_hold_up_its_neighbours():
    marker = {"pk": {"S": marker_key("v@1#ann", "e1")}}
    records = [record(image, n) for n, image in enumerate([commit(), commit(u=None), marker, commit()])]
    lines, refused = parse_records(records, commit_line)
    assert list(lines) == [0, 3]
    assert {place: reason.field for place, reason in refused.items()} == {1: "u"}


class Firehose:
    """Fake `put_record_batch`, in which records whose first line is in `bad` fail a given number of times."""

    def __init__(self, **bad: int) -> None:
        self.bad = bad
        self.calls: list[list[bytes]] = []

    def put_record_batch(self, *, DeliveryStreamName, Records):  # noqa: N803 - boto3's own names
        assert DeliveryStreamName == "commits"
        self.calls.append([record["Data"] for record in Records])
        answers = [self._answer(data.split(b"\n")[0].decode()[:2]) for data in self.calls[-1]]
        return {"RequestResponses": answers, "FailedPutCount": sum("ErrorCode" in it for it in answers)}

    def _answer(self, name: str) -> dict[str, str]:
        if self.bad.get(name, 0) > 0:
            self.bad[name] -= 1
            return {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
        return {"RecordId": name}


def test_lines_share_records_in_their_order():
    firehose = Firehose()
    lines = {place: b"%02d" % place for place in range(0, 90, 3)}
    assert archive(firehose.put_record_batch, "commits", lines) == set()
    assert [len(call) for call in firehose.calls] == [1]
    assert firehose.calls[0][0].split(b"\n") == list(lines.values())


def test_no_record_is_larger_than_its_bound_and_no_line_is_lost():
    firehose = Firehose()
    lines = {place: b"%02d" % place + b"x" * 30_000 for place in range(40)}
    assert archive(firehose.put_record_batch, "commits", lines) == set()
    sent = [data for call in firehose.calls for data in call]
    assert len(sent) > 1
    assert all(len(data) <= RECORD_BYTES for data in sent)
    assert b"\n".join(sent).split(b"\n") == list(lines.values())


def test_nothing_to_archive_is_no_call():
    firehose = Firehose()
    assert archive(firehose.put_record_batch, "commits", {}) == set()
    assert firehose.calls == []


def test_what_firehose_refuses_is_sent_again_alone_and_named_if_it_stays_so():
    large = b"x" * (RECORD_BYTES - 10)
    lines = {4: b"aa" + large, 5: b"bb" + large, 6: b"cc" + large}
    firehose = Firehose(bb=2)
    assert archive(firehose.put_record_batch, "commits", lines) == set()
    assert [len(call) for call in firehose.calls] == [3, 1, 1]
    assert archive(Firehose(bb=99, cc=99).put_record_batch, "commits", lines) == {5, 6}


def test_lambda_comes_back_from_the_first_that_failed():
    records = [record(commit(), number) for number in (11, 12, 13)]
    assert batch_failures(records, set()) == {"batchItemFailures": []}
    assert batch_failures(records, {2, 1}) == {"batchItemFailures": [{"itemIdentifier": "12"}]}


def test_the_letter_names_the_record_and_the_reason_and_holds_no_content():
    with pytest.raises(InvalidInput) as refused:
        commit_line(record(commit(u=None, ids=binary(b"canary")), 12))
    message = dead_letter(record(commit(), 12), refused.value)
    assert json.loads(message["MessageBody"]) == {
        "stream": ARN,
        "sequence_number": "12",
        "keys": {"pk": {"S": "v@1#ann"}},
    }
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert attributes == {"code": "unreadable_record", "detail": "An attribute is missing.", "field": "u"}
