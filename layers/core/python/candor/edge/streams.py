"""Table streams → the archive's lines and the platform's own events.

A function gets a batch of stream records in the order of their writes. What it makes of a record is kept by the
record's place in the batch, so that the first one that failed can be named: Lambda then comes back with it and with
all that follow. Lines may thus be written more than once; readers know a commit by its version and a decision by its id.
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

RECORDS_PER_CALL: Final = 500
BYTES_PER_CALL: Final = 4 << 20
"""What Firehose's PutRecordBatch takes."""

RECORD_BYTES: Final = 256 << 10
"""Lines share a Firehose record up to this size: each record is billed as full units of 5 KB."""

Record = Mapping[str, Any]
T = TypeVar("T")


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
    """The log's line of one commit of a feature item; None for markers, tombstones and what was removed.

    A tombstone is version 0: it took nothing in, and its key would write the erased token into the log.

    Raises `InvalidInput` if the item lacks what a commit writes.
    """
    image = record["dynamodb"].get("NewImage")
    if image is None or image.get("vn", {"N": "0"}) == {"N": "0"}:
        return None
    with _reading():
        line = _CommitLine(
            key=image["pk"]["S"],
            birth=int(image["vb"]["N"]),
            n=int(image["vn"]["N"]),
            applied_at=int(image["u"]["N"]),
            event_ids=msgspec.json.decode(_bytes(image["ids"]), type=list[str]),
            filled_before=int(image["fb"]["N"]) if "fb" in image else None,
            rebuilt=image.get("rb") == {"BOOL": True},
            left_out=image.get("lo") == {"BOOL": True},
            unsettled=msgspec.json.decode(_bytes(image["us"]), type=list[str]) if "us" in image else [],
            healing=image.get("hl") == {"BOOL": True},
        )
    return msgspec.json.encode(line)


def decision_line(record: Record) -> bytes:
    """The archive's line of one new decision. Raises `InvalidInput` if the item lacks id, moment or record."""
    with _reading():
        image = record["dynamodb"]["NewImage"]
        raw = msgspec.Raw(decision_record(record))
        line = _DecisionLine(id=image["pk"]["S"], q=int(image["q"]["N"]), record=raw)
    return msgspec.json.encode(line)


def decision_record(record: Record) -> bytes:
    """The decision record of a new decision as it was written, one JSON object. Raises `InvalidInput`."""
    with _reading():
        raw = _bytes(record["dynamodb"]["NewImage"]["r"])
        msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return raw


def decision_of(record: Record) -> Decision:
    """The new decision that a record tells of. Raises `InvalidInput`."""
    raw = decision_record(record)
    try:
        return parse_record(raw)
    except (KeyError, TypeError, msgspec.ValidationError):
        raise InvalidInput("unreadable_decision", "The record is of another shape.") from None


def _bytes(attribute: Mapping[str, str]) -> bytes:
    return b64decode(attribute["B"], validate=True)


@contextmanager
def _reading() -> Iterator[None]:
    """Every way in which an image can be unreadable becomes `InvalidInput`, without its content."""
    try:
        yield
    except KeyError as missing:
        raise InvalidInput("unreadable_record", "An attribute is missing.", str(missing.args[0])) from None
    except (ValueError, TypeError, msgspec.DecodeError):
        raise InvalidInput("unreadable_record", "An attribute is of another shape.") from None


def parse_records(
    records: Sequence[Record], read: Callable[[Record], T | None]
) -> tuple[dict[int, T], dict[int, InvalidInput]]:
    """What `read` makes of the records, by place, where it is not None; and of which it can make nothing, and why."""
    parsed: dict[int, T] = {}
    refused: dict[int, InvalidInput] = {}
    for place, record in enumerate(records):
        try:
            made = read(record)
        except InvalidInput as reason:
            refused[place] = reason
            continue
        if made is not None:
            parsed[place] = made
    return parsed, refused


def archive(put_record_batch: Callable[..., Any], stream: str, lines: Mapping[int, bytes]) -> set[int]:
    """Append lines to a delivery stream by boto3's `put_record_batch`; the places of those that it refused.

    Of lines that share a record only the first is named.
    """

    def send(page: list[tuple[int, bytes]]) -> Sequence[Mapping[str, Any]]:
        data = [{"Data": body} for _, body in page]
        answer = put_record_batch(DeliveryStreamName=stream, Records=data)
        results: Sequence[Mapping[str, Any]] = answer["RequestResponses"]
        return results

    records = list(_packed(lines))
    refused = deliver(send, records, lambda it: len(it[1]), most=RECORDS_PER_CALL, limit=BYTES_PER_CALL)
    return {place for place, _ in refused}


def _packed(lines: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines joined into records, each with the place of its first; the stream itself ends every record's last line."""
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
    """A record that can never be read, as a message to the dead-letter queue: its name and the reason, not its content."""
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
    """The partial batch response: Lambda delivers again from the first place that failed, or goes on."""
    if not failed:
        return {"batchItemFailures": []}
    return {"batchItemFailures": [{"itemIdentifier": records[min(failed)]["dynamodb"]["SequenceNumber"]}]}
