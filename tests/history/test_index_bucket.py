"""The bucket behind the index: range reads, listings from a name on, replaced objects, removal of all versions."""

from __future__ import annotations

import io

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from candor.clock import HOUR
from history.index import index_object
from history.index.bucket import ArchiveBucket, Vanished
from history.index.history import EntityHistory
from history.index.kinds import KINDS
from history.index.read import ArchiveIndex
from history.index.refresh import refresh
from tests.builders import NOW, customer, definitions_of, event, view_of
from tests.history.archives import MemoryArchive, commit_line, envelope

VIEW = view_of(["1h"], customer)
DEFINITIONS = definitions_of(VIEW)
KEY = VIEW.item_keys("ann")[0]


@pytest.fixture
def s3():
    with mock_aws():
        client = boto3.client("s3", "us-east-1")
        client.create_bucket(Bucket="archive")
        client.put_bucket_versioning(Bucket="archive", VersioningConfiguration={"Status": "Enabled"})
        yield client


@pytest.fixture
def bucket(s3) -> ArchiveBucket:
    return ArchiveBucket(s3, "archive")


def test_parts_of_an_object(bucket):
    bucket.put("index/a", io.BytesIO(b"0123456789"))
    assert bucket.tail("index/a", 4) == (b"6789", 10)
    assert bucket.tail("index/a", 400) == (b"0123456789", 10)
    assert bucket.span("index/a", 2, 5).read() == b"234"


def test_what_is_gone_has_vanished_and_other_faults_pass_through(bucket, s3):
    with pytest.raises(Vanished):
        bucket.tail("index/none", 4)
    bucket.put("index/a", io.BytesIO(b"0123456789"))
    with pytest.raises(ClientError, match="InvalidRange"):
        bucket.span("index/a", 20, 30)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        ArchiveBucket(s3, "nowhere").tail("index/a", 4)


def test_names_after_a_name_in_their_order(bucket, s3):
    for name in ("events/b", "events/a", "events/c", "other/d"):
        s3.put_object(Bucket="archive", Key=name, Body=name.encode())
    stamps = list(bucket.stamps("events/"))
    assert [(stamp.name, stamp.size) for stamp in stamps] == [(f"events/{each}", 8) for each in "abc"]
    assert len({stamp.tag for stamp in stamps}) == 3
    assert [stamp.name for stamp in bucket.stamps("events/", "events/a")] == ["events/b", "events/c"]
    assert list(bucket.read(["events/c", "events/a"])) == [
        ("events/c", b"events/c"),
        ("events/a", b"events/a"),
    ]


def test_nothing_is_left_of_what_is_removed(bucket, s3):
    for body in (b"1", b"2"):
        bucket.put("index/a", io.BytesIO(body))
    bucket.put("index/ab", io.BytesIO(b"3"))
    s3.delete_object(Bucket="archive", Key="index/a")
    bucket.remove("index/a")
    bucket.remove("index/a")
    left = s3.list_object_versions(Bucket="archive")
    assert [version["Key"] for version in left["Versions"]] == ["index/ab"]
    assert "DeleteMarkers" not in left


@pytest.mark.parametrize("tail", [64 << 10, 64])
def test_an_index_in_a_bucket_tells_what_one_in_memory_tells(bucket, s3, monkeypatch, tail):
    """`tail`: bytes of the first read; a longer directory costs a second one."""
    monkeypatch.setattr(index_object, "TAIL", tail)
    memory = MemoryArchive()
    for number in range(30):
        at = NOW - (40 - number) * HOUR
        memory.deliver("events/", at, [envelope(event(f"e{number}", at), at)])
        memory.deliver("commits/", at, [commit_line(KEY, number + 1, at, [f"e{number}"])])
    for name, body in memory.objects.items():
        s3.put_object(Bucket="archive", Key=name, Body=body)
    histories = []
    for archive in (bucket, memory):
        assert [refresh(archive, kind, NOW).finished for kind in KINDS] == [True, True]
        history = EntityHistory(ArchiveIndex(archive), DEFINITIONS, {KEY: VIEW})
        history.update()
        histories.append(history.memory)
    assert list(histories[0].items[KEY]) == [f"e{number}" for number in range(30)]
    assert histories[0].items == histories[1].items
    assert histories[0].log.of(KEY) == histories[1].log.of(KEY)
