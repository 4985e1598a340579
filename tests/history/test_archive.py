"""Only events accepted online are read, and a truncated archive is an error."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from candor.clock import DAY, HOUR, MINUTE, format_rfc3339
from candor.contracts import HISTORY, PLATFORM, Event
from history.archive.events import ArchiveDamaged, Reading, accepted_events, arrivals, read_envelopes
from history.archive.objects import AHEAD, Bucket, Folder
from tests.training.conftest import T0, event, loan, small_lender, write_archive, write_lines

FUTURE = 1_800_000_000_000


def test_events_come_in_order_of_arrival_with_their_duplicates(tmp_path):
    first, second = loan("1", "a", T0, days_late=0), loan("2", "a", T0 - DAY, days_late=0)
    write_archive(tmp_path, first, "2026/11/23/21/b.gz")
    write_archive(tmp_path, [*second, second[0]], "2026/11/23/21/a.gz")
    ids = [event.id for event in accepted_events(read_envelopes(tmp_path), small_lender())]
    assert ids == [line["event_id"] for line in (*second, second[0], *first)]


def test_refused_events_are_counted_by_their_code_and_left_out(tmp_path):
    good = event("1", "loan.closed", T0, "a", loan_id="l", days_late=0)
    bad = [
        good | {"type": "loan.vanished"},
        good | {"data": {"loan_id": "l", "days_late": "3"}},
        good | {"data": {"loan_id": "l"}},
        good | {"entities": {"merchant": "mer_1"}},
        good | {"occurred_at": "2027-01-01T00:00:00Z"},
        good | {"occurred_at": "yesterday"},
        good | {"extra": 1},
    ]
    write_archive(tmp_path, [*bad, good])
    reading = Reading()
    assert len(list(accepted_events(read_envelopes(tmp_path), small_lender(), reading))) == 1
    assert reading.envelopes == 8
    assert reading.refused.total() == 7
    assert reading.refused["occurred_in_future"] == 1


@pytest.mark.parametrize("damage", ["cut", "not gzip", "not json"])
def test_a_damaged_file_is_named_not_skipped(tmp_path, damage):
    path = write_archive(tmp_path, loan("1", "a", T0, days_late=0) * 50)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.write_bytes(b"{}" if damage == "not gzip" else gzip.compress(b'{"time": '))
    with pytest.raises(ArchiveDamaged, match=r"2026/11/23/21/part-1\.gz, line"):
        list(read_envelopes(tmp_path))


TAKEN, CLAIMED, LATER = T0 + HOUR, T0 + MINUTE, T0 + DAY
"""When the bus accepted an event of `T0`, when its producer claims it did, and a moment after both."""


def line(source: str, *, stamped: bool = True, **moments: int) -> dict[str, Any]:
    """Return an archived event of `T0` from this source."""
    detail = event("1", "loan.closed", T0, "a", loan_id="l", days_late=0)
    detail |= {name: format_rfc3339(moment) for name, moment in moments.items()}
    envelope = {"source": source, "time": format_rfc3339(CLAIMED), "detail": detail}
    return {"ingestion_time": format_rfc3339(TAKEN), "event": envelope} if stamped else envelope


def read(tmp_path: Path, *lines: dict[str, Any]) -> tuple[list[Event], Reading]:
    write_lines(tmp_path / "2026/11/23/21/part-1.gz", lines)
    reading = Reading()
    return list(accepted_events(read_envelopes(tmp_path), small_lender(), reading)), reading


@pytest.mark.parametrize(
    ("archived", "known_at"),
    [
        (line("candor.lender"), TAKEN),
        (line("candor.lender", stamped=False), CLAIMED),
        (line("candor.lender", occurred_at=TAKEN + 500), None),
        (line("candor.lender", voided_at=CLAIMED), TAKEN),
        (line(PLATFORM), None),
        (line(HISTORY), None),
        (line(HISTORY, voided_at=CLAIMED), None),
        (line(HISTORY, known_at=CLAIMED), CLAIMED),
        (line(HISTORY, known_at=T0 - DAY), None),
        (line(HISTORY, voided_at=CLAIMED, known_at=T0 + 1), None),
        (line(HISTORY, known_at=LATER), TAKEN),
        (line(HISTORY, known_at=LATER, occurred_at=TAKEN + 500), None),
    ],
)
def test_live_events_are_known_from_their_arrival_and_history_as_it_says(tmp_path, archived, known_at):
    ((accepted,), _) = read(tmp_path, archived)
    assert accepted.known_at == known_at
    assert accepted.known_from == (accepted.moment if known_at is None else known_at)


@pytest.mark.parametrize("source", ["candor.lender", PLATFORM])
def test_a_producer_that_says_when_its_event_became_known_is_refused(tmp_path, source):
    accepted, reading = read(tmp_path, line(source, known_at=CLAIMED), line(HISTORY, known_at=CLAIMED))
    assert len(accepted) == 1
    assert dict(reading.refused) == {"invalid_field": 1}


def test_when_the_bus_took_an_event_is_by_its_own_stamp(tmp_path):
    write_lines(tmp_path / "part-1.gz", [line("candor.lender"), line("candor.lender", stamped=False)])
    moments = [arrival.taken_at for arrival in arrivals(read_envelopes(tmp_path), small_lender())]
    assert moments == [TAKEN, CLAIMED]


def test_an_event_ahead_of_the_buss_clock_is_refused_whatever_its_producer_says(tmp_path):
    accepted, reading = read(tmp_path, line("candor.lender", occurred_at=TAKEN + HOUR))
    assert (accepted, dict(reading.refused)) == ([], {"occurred_in_future": 1})


def test_an_empty_archive_has_no_events(tmp_path):
    assert list(read_envelopes(tmp_path)) == []


def test_a_bucket_and_a_folder_are_read_as_the_same_objects(tmp_path):
    for number in range(3 * AHEAD):  # more than are under way at a time
        started = event(str(number), "loan.closed", T0, "a", loan_id="l", days_late=number)
        write_archive(tmp_path, [started], f"2026/11/23/{number % 24:02}/part-{number}.gz")
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="archive")
        for name, data in Folder(tmp_path):
            s3.put_object(Bucket="archive", Key=f"events/{name}", Body=data)
        s3.put_object(Bucket="archive", Key="undelivered/2026/part-1.gz", Body=b"something else")
        bucket = Bucket(s3, "archive", "events/")
        assert bucket.names() == [f"events/{name}" for name in Folder(tmp_path).names()]
        details = [bytes(envelope.detail) for envelope in read_envelopes(bucket)]
    assert details == [bytes(envelope.detail) for envelope in read_envelopes(tmp_path)]
    assert len(details) == 3 * AHEAD


def test_a_damaged_object_of_a_bucket_is_named(tmp_path):
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="archive")
        s3.put_object(Bucket="archive", Key="events/part-1.gz", Body=gzip.compress(b"{}"))
        with pytest.raises(ArchiveDamaged, match=r"events/part-1\.gz, line 1"):
            list(read_envelopes(Bucket(s3, "archive", "events/")))
