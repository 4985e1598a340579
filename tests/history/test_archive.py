"""Only what the online path accepted is learned from, and half an archive is no archive."""

from __future__ import annotations

import gzip

import boto3
import pytest
from moto import mock_aws

from candor.clock import DAY
from history.archive import ArchiveDamaged, Reading, accepted_events, read_envelopes
from history.objects import AHEAD, Bucket, Folder
from tests.training.conftest import T0, event, loan, small_lender, write_archive

FUTURE = 1_800_000_000_000


def test_events_come_in_order_of_arrival_with_their_duplicates(tmp_path):
    first, second = loan("1", "a", T0, days_late=0), loan("2", "a", T0 - DAY, days_late=0)
    write_archive(tmp_path, first, "2026/11/23/21/b.gz")
    write_archive(tmp_path, [*second, second[0]], "2026/11/23/21/a.gz")
    found = [one.id for one in accepted_events(read_envelopes(tmp_path), small_lender())]
    assert found == [one["event_id"] for one in (*second, second[0], *first)]


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
        found = [bytes(one.detail) for one in read_envelopes(bucket)]
    assert found == [bytes(one.detail) for one in read_envelopes(tmp_path)]
    assert len(found) == 3 * AHEAD


def test_a_damaged_object_of_a_bucket_is_named(tmp_path):
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="archive")
        s3.put_object(Bucket="archive", Key="events/part-1.gz", Body=gzip.compress(b"{}"))
        with pytest.raises(ArchiveDamaged, match=r"events/part-1\.gz, line 1"):
            list(read_envelopes(Bucket(s3, "archive", "events/")))
