"""The archive's days as Parquet files: written once, rewritten after late objects, equal in folder and bucket."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from history.archive.events import ArchiveDamaged
from history.archive.stores import BucketStore, FolderStore
from history.archive.tables import SOURCES, TABLES, Compacted, compact, day_of, days_of, forget

EVENTS, DECISIONS, COMMITS = TABLES


def line(number: int, **more) -> dict:
    detail = {
        "event_id": f"evt_{number}",
        "type": "payment.due",
        "occurred_at": "2026-11-24T08:00:00.250Z",
        "entities": {"customer": f"cus_{number}"},
        "data": {"amount": number},
    }
    return {"time": "2026-11-24T08:00:01Z", "detail": detail | more}


def zipped(*lines: dict) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in lines).encode())


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    if request.param == "folder":
        yield FolderStore(tmp_path)
        return
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="archive")
        s3.put_bucket_versioning(Bucket="archive", VersioningConfiguration={"Status": "Enabled"})
        yield BucketStore(s3, "archive")


def arrive(store, day: str, name: str, *lines: dict) -> None:
    store.put(f"events/{day}/08/{name}.gz", zipped(*lines))


def compacted(store, table=EVENTS) -> tuple[int, int, int, int]:
    done = compact(store, table, lambda done, total: None)
    assert isinstance(done, Compacted)
    return done.written, done.kept, done.removed, done.rows


def rows(store, day: str, tmp_path: Path) -> list[dict]:
    path = store.download(EVENTS.key(day), tmp_path / "copy")
    return pq.ParquetFile(path).read().to_pylist()


def test_small_files_of_a_day_become_one_and_a_late_one_writes_only_its_day_again(store, tmp_path):
    for number in range(3):
        arrive(store, "2026/11/24", f"part-{number}", line(number))
    arrive(store, "2026/11/25", "part-0", line(9), line(9))
    assert compacted(store) == (2, 0, 0, 5)
    assert compacted(store) == (0, 2, 0, 0)
    assert [row["event_id"] for row in rows(store, "2026-11-24", tmp_path)] == ["evt_0", "evt_1", "evt_2"]
    arrive(store, "2026/11/24", "late", line(7))
    assert compacted(store) == (1, 1, 0, 4)
    assert compacted(store) == (0, 2, 0, 0)
    assert len(store.stamps(EVENTS.table_prefix)) == 2


def test_what_was_rewritten_is_written_anew_and_what_expired_goes(store, tmp_path):
    arrive(store, "2026/11/24", "part-0", line(0), line(1))
    arrive(store, "2026/11/25", "part-0", line(2))
    compacted(store)
    arrive(store, "2026/11/24", "part-0", line(1))
    store.remove("events/2026/11/25/08/part-0.gz")
    assert compacted(store) == (1, 0, 1, 1)
    assert [row["event_id"] for row in rows(store, "2026-11-24", tmp_path)] == ["evt_1"]
    assert list(store.stamps(EVENTS.table_prefix)) == [EVENTS.key("2026-11-24")]


def test_an_event_is_a_row_and_what_is_none_is_kept_as_it_came(store, tmp_path):
    arrive(
        store, "2026/11/24", "part-0", line(3, voided_at="2026-11-24T09:00:00Z"), line(4, data="no object")
    )
    compacted(store)
    event, refused = rows(store, "2026-11-24", tmp_path)
    assert (event["occurred_at"].isoformat(), event["voided_at"].hour) == ("2026-11-24T08:00:00.250000", 9)
    assert (event["entities"], json.loads(event["data"])) == ([("customer", "cus_3")], {"amount": 3})
    assert (event["refused"], refused["event_id"]) == (None, None)
    assert (event["taken_at"].minute, event["known_at"].hour, refused["known_at"]) == (0, 9, None)
    assert json.loads(refused["refused"])["event_id"] == "evt_4"


def test_a_row_says_when_the_bus_took_an_event_and_when_it_was_known(store, tmp_path):
    live = {"ingestion_time": "2026-11-24T08:00:05Z", "event": line(1) | {"source": "candor.lender"}}
    history = {"ingestion_time": "2026-11-24T08:00:05Z", "event": line(2) | {"source": "candor.history"}}
    arrive(store, "2026/11/24", "part-0", live, history)
    compacted(store)
    moments = [
        (row["taken_at"].isoformat(), row["known_at"].isoformat())
        for row in rows(store, "2026-11-24", tmp_path)
    ]
    assert moments == [
        ("2026-11-24T08:00:05", "2026-11-24T08:00:05"),
        ("2026-11-24T08:00:05", "2026-11-24T08:00:00.250000"),
    ]


def test_a_new_column_writes_every_day_again(store, monkeypatch):
    arrive(store, "2026/11/24", "part-0", line(0))
    compacted(store)
    monkeypatch.setattr("history.archive.tables.EVENTS_PREFIX", "events/")
    wider = dataclasses.replace(EVENTS, schema=EVENTS.schema.append(pa.field("source", pa.string())))
    assert compacted(store, wider) == (1, 0, 0, 1)
    assert SOURCES in store.metadata(EVENTS.key("2026-11-24"))


def test_what_is_forgotten_goes_in_all_versions_and_only_its_days(store):
    for day in ("24", "25"):
        arrive(store, f"2026/11/{day}", "part-0", line(0))
    compacted(store)
    days = days_of(
        EVENTS, ["events/2026/11/24/08/part-0.gz", "undelivered/2026/11/25/08/x", "events/strange.gz"]
    )
    assert days == {"2026-11-24"}
    forget(store, EVENTS, days)
    assert list(store.stamps(EVENTS.table_prefix)) == [EVENTS.key("2026-11-25")]
    assert compact(store, EVENTS, lambda done, total: None, days).written == 1


def test_a_bucket_keeps_one_version_of_a_table():
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="archive")
        s3.put_bucket_versioning(Bucket="archive", VersioningConfiguration={"Status": "Enabled"})
        store = BucketStore(s3, "archive")
        for number in range(3):
            arrive(store, "2026/11/24", f"part-{number}", line(number))
            compacted(store)
        versions = s3.list_object_versions(Bucket="archive", Prefix="tables/")["Versions"]
        assert len(versions) == 1
        body = s3.get_object(Bucket="archive", Key=EVENTS.key("2026-11-24"))["Body"].read()
        assert pq.read_table(io.BytesIO(body)).num_rows == 3


def test_a_key_without_an_hour_is_damage():
    with pytest.raises(ArchiveDamaged, match="contains no hour"):
        day_of("events/part-0.gz")


def test_commits_have_their_view(store, tmp_path):
    commit = {
        "key": "loans@1#ann",
        "birth": 5,
        "n": 1,
        "applied_at": 1_800_000_000_000,
        "event_ids": ["a", "b"],
    }
    store.put("commits/2026/11/24/08/x.gz", zipped(commit))
    assert compacted(store, COMMITS) == (1, 0, 0, 1)
    path = store.download(COMMITS.key("2026-11-24"), tmp_path / "copy")
    [row] = pq.ParquetFile(path).read().to_pylist()
    assert (row["view"], row["event_ids"], row["filled_before"]) == ("loans", ["a", "b"], None)
    assert compacted(store, DECISIONS) == (0, 0, 0, 0)
