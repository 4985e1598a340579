"""Table streams → archive lines and the platform's own events.

A function receives a batch of stream records in write order. Results are keyed by a record's position in the batch,
so that the first failure can be reported: Lambda then redelivers it and all that follow. Lines may thus be written
more than once; readers deduplicate commits by version and decisions by id.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

from candor.decision import Decision, parse_record
from candor.edge.delivery import deliver
from candor.errors import InvalidInput
from candor.store import layout

RECORDS_PER_CALL: Final = 500
BYTES_PER_CALL: Final = 4 << 20
"""Limits of Firehose's PutRecordBatch."""

RECORD_BYTES: Final = 256 << 10
"""Largest Firehose record into which lines are joined: records are billed in units of 5 KB."""

Record = Mapping[str, Any]
T = TypeVar("T")

_TRUE: Final = {"BOOL": True}


class _CommitLine(msgspec.Struct, omit_defaults=True):
    key: str
    birth: int
    n: int
    applied_at: int
    event_ids: list[str]
    filled_before: int | None = None
    rebuilt: bool = False
    left_out: bool = False
    unsettled: list[str] = []
    healing: bool = False


class _DecisionLine(msgspec.Struct):
    id: str
    q: int
    record: msgspec.Raw


def commit_line(record: Record) -> bytes | None:
    """The commit log's line of one commit of a feature item; None for markers, tombstones and removals.

    A tombstone is version 0: it holds no event, and its key would write the erased token into the log.

    Raises `InvalidInput` if an attribute of a commit is missing.
    """
    image = record["dynamodb"].get("NewImage")
    if image is None or image.get(layout.NUMBER, {"N": "0"}) == {"N": "0"}:
        return None
    with _reading():
        line = _CommitLine(
            key=image[layout.KEY]["S"],
            birth=int(image[layout.BIRTH]["N"]),
            n=int(image[layout.NUMBER]["N"]),
            applied_at=int(image[layout.APPLIED_AT]["N"]),
            event_ids=_ids(image[layout.EVENT_IDS]),
            filled_before=int(image[layout.FILLED_BEFORE]["N"]) if layout.FILLED_BEFORE in image else None,
            rebuilt=image.get(layout.REBUILT) == _TRUE,
            left_out=image.get(layout.LEFT_OUT) == _TRUE,
            unsettled=_ids(image[layout.UNSETTLED]) if layout.UNSETTLED in image else [],
            healing=image.get(layout.HEALING) == _TRUE,
        )
    return msgspec.json.encode(line)


def decision_line(record: Record) -> bytes:
    """The archive's line of a new decision. Raises `InvalidInput` if id, moment or record is missing."""
    with _reading():
        image = record["dynamodb"]["NewImage"]
        raw = msgspec.Raw(decision_record(record))
        line = _DecisionLine(id=image[layout.KEY]["S"], q=int(image[layout.MOMENT]["N"]), record=raw)
    return msgspec.json.encode(line)


def decision_record(record: Record) -> bytes:
    """The record of a new decision as stored, one JSON object. Raises `InvalidInput`."""
    with _reading():
        raw = _bytes(record["dynamodb"]["NewImage"][layout.RECORD])
        msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return raw


def decision_of(record: Record) -> Decision:
    """The new decision in a stream record. Raises `InvalidInput`."""
    raw = decision_record(record)
    try:
        return parse_record(raw)
    except (KeyError, TypeError, msgspec.ValidationError):
        raise InvalidInput("unreadable_decision", "The record is of another shape.") from None


def _ids(attribute: Mapping[str, str]) -> list[str]:
    return msgspec.json.decode(_bytes(attribute), type=list[str])


def _bytes(attribute: Mapping[str, str]) -> bytes:
    return b64decode(attribute["B"], validate=True)


@contextmanager
def _reading() -> Iterator[None]:
    """Convert every decoding error of an image to `InvalidInput`, without its content."""
    try:
        yield
    except KeyError as missing:
        raise InvalidInput("unreadable_record", "An attribute is missing.", str(missing.args[0])) from None
    except (ValueError, TypeError, msgspec.DecodeError):
        raise InvalidInput("unreadable_record", "An attribute is of another shape.") from None


def parse_records(
    records: Sequence[Record], parse: Callable[[Record], T | None]
) -> tuple[dict[int, T], dict[int, InvalidInput]]:
    """Results of `parse` that are not None, and its errors, both by the record's position."""
    parsed: dict[int, T] = {}
    refused: dict[int, InvalidInput] = {}
    for place, record in enumerate(records):
        try:
            value = parse(record)
        except InvalidInput as reason:
            refused[place] = reason
            continue
        if value is not None:
            parsed[place] = value
    return parsed, refused


def archive(put_record_batch: Callable[..., Any], stream: str, lines: Mapping[int, bytes]) -> set[int]:
    """Append lines to a delivery stream by boto3's `put_record_batch`; returns the positions of those that failed.

    Of lines joined into one record only the first is reported.
    """

    def send(page: list[tuple[int, bytes]]) -> Sequence[Mapping[str, Any]]:
        data = [{"Data": body} for _, body in page]
        response = put_record_batch(DeliveryStreamName=stream, Records=data)
        results: Sequence[Mapping[str, Any]] = response["RequestResponses"]
        return results

    records = list(_packed(lines))
    refused = deliver(send, records, lambda it: len(it[1]), most=RECORDS_PER_CALL, limit=BYTES_PER_CALL)
    return {place for place, _ in refused}


def _packed(lines: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines joined into records, each with the position of its first. The stream appends the final newline."""
    first, held, size = 0, list[bytes](), 0
    for place, line in lines.items():
        if held and size + len(line) >= RECORD_BYTES:
            yield first, b"\n".join(held)
            held, size = [], 0
        if not held:
            first = place
        held.append(line)
        size += len(line) + 1
    if held:
        yield first, b"\n".join(held)


def dead_letter(record: Record, reason: InvalidInput) -> dict[str, Any]:
    """Dead-letter message for an unreadable record: its sequence number, keys and error, without its content."""
    change = record["dynamodb"]
    body = {
        "stream": record["eventSourceARN"],
        "sequence_number": change["SequenceNumber"],
        "keys": change["Keys"],
    }
    attributes = {"code": reason.code, "detail": reason.detail, "field": reason.field or "-"}
    return {
        "MessageBody": msgspec.json.encode(body).decode(),
        "MessageAttributes": {k: {"DataType": "String", "StringValue": v} for k, v in attributes.items()},
    }


def batch_failures(records: Sequence[Record], failed: Collection[int]) -> dict[str, Any]:
    """Partial batch response: Lambda redelivers from the first failed position, if any."""
    if not failed:
        return {"batchItemFailures": []}
    return {"batchItemFailures": [{"itemIdentifier": records[min(failed)]["dynamodb"]["SequenceNumber"]}]}
