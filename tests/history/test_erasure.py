"""The remainder of a line after an erasure, and of an object that others read, write or delete meanwhile."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from base64 import b64encode
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from candor.clock import parse_rfc3339
from candor.contracts import HISTORY
from candor.errors import StoreUnavailable
from history.archive.events import ArchiveDamaged
from history.archive.versioned import VersionedBucket
from history.erasure.lines import CommitLines, EventLines, Person, UndeliveredLines
from history.erasure.objects import changed_lines
from history.erasure.rows import clean_run, without_rows
from lender import DEFINITIONS
from tests.handlers.checkouts import checkout

PERSON = Person("customer", "cus_1")
STAND_IN = "erased_0"
ERASED_AT = parse_rfc3339("2026-11-24T00:00:00Z")
VIEW = next(view for view in DEFINITIONS.views if view.name == "customer_loans")
HOT = next(view for view in DEFINITIONS.views if view.entity.hot)


def envelope(kind: str, entities: dict[str, str], at: str = "2026-11-01T00:00:00Z", **data: Any) -> bytes:
    detail = {
        "event_id": "e1",
        "type": kind,
        "occurred_at": at,
        "schema_version": 1,
        "entities": entities,
        "data": data,
    }
    return json.dumps({"time": "2026-11-01T00:00:01Z", "detail": detail}).encode() + b"\n"


def stamped(line: bytes) -> bytes:
    """Return the event's line in the newer format, with the bus's stamp."""
    return json.dumps({"ingestion_time": "2026-11-01T00:00:02Z", "event": json.loads(line)}).encode() + b"\n"


def rule() -> EventLines:
    return EventLines(PERSON, DEFINITIONS, STAND_IN, ERASED_AT)


def left(line: bytes) -> Any:
    """Return the remainder of an event's line, stamped or not: its detail, or None."""
    remainder, with_stamp = rule()(line), rule()(stamped(line))
    if remainder is None:
        assert with_stamp is None
        return None
    assert json.loads(with_stamp) == json.loads(stamped(remainder))
    return json.loads(remainder)["detail"]


def untouched(line: bytes) -> bool:
    with_stamp = stamped(line)
    return rule()(line) is line and rule()(with_stamp) is with_stamp


REFUND = {"amount": 100, "currency": "USD"}
BOTH = {"customer": "cus_1", "merchant": "mer_1"}


def test_what_only_the_person_needs_goes():
    assert left(envelope("refund.created", {"customer": "cus_1"}, **REFUND)) is None
    assert untouched(envelope("refund.created", {"customer": "cus_10"}, **REFUND))
    assert untouched(envelope("refund.created", {"merchant": "mer_1"}, **REFUND))


def test_what_a_merchant_counts_stays_without_the_person():
    detail = left(envelope("refund.created", BOTH, **REFUND, note="for cus_1"))
    assert (detail["entities"], detail["data"]) == ({"merchant": "mer_1"}, REFUND)


def test_a_device_counts_as_many_applicants_as_before():
    data = {"checkout_id": "c", "total": 4_000, "currency": "USD", "checkout": checkout(token="cus_1")}
    detail = left(envelope("checkout.started", {**BOTH, "device": "dev_1"}, **data, applicant="cus_1"))
    assert detail["entities"] == {"merchant": "mer_1", "device": "dev_1"}
    assert detail["data"] == {**data, "applicant": STAND_IN, "checkout": {}}


def test_what_happened_since_stays():
    assert untouched(envelope("refund.created", BOTH, "2026-11-24T00:00:00Z", **REFUND))


def test_an_event_of_another_that_mentions_the_person_keeps_all_but_the_token():
    data = {"checkout_id": "c", "total": 4_000, "currency": "USD", "checkout": {"by": ["cus_1"], "n": 1}}
    detail = left(envelope("checkout.started", {"customer": "cus_2"}, **data))
    assert (detail["entities"], detail["data"]) == (
        {"customer": "cus_2"},
        {**data, "checkout": {"by": [STAND_IN], "n": 1}},
    )


def test_loaded_history_keeps_when_it_became_known():
    line = json.loads(envelope("refund.created", BOTH, **REFUND))
    line |= {"source": HISTORY, "detail": {**line["detail"], "known_at": "2026-11-01T00:00:01Z"}}
    detail = left(json.dumps(line).encode() + b"\n")
    assert (detail["known_at"], detail["entities"]) == ("2026-11-01T00:00:01Z", {"merchant": "mer_1"})


@pytest.mark.parametrize(
    ("line", "goes"),
    [
        (envelope("refund.created", BOTH, **REFUND).replace(b"cus_1", b"c\\u0075s_1"), True),
        (b'{"detail": {"type": "of old", "who": "cus_1"}}\n', True),
        (b'{"detail": {"type": "of old", "who": "cus_10"}}\n', False),
        (b"half a line with cus_1", True),
        (b"half a line of another", False),
    ],
)
def test_no_spelling_hides_the_token(line, goes):
    remainder = EventLines(PERSON, DEFINITIONS, STAND_IN, ERASED_AT)(line)
    assert (remainder != line, b'cus_1"' in (remainder or b"")) == (goes, False)


@pytest.mark.parametrize(
    ("key", "theirs"),
    [
        (f"{VIEW.name}@{VIEW.version}#cus_1", True),
        (f"{VIEW.name}@00000000#cus_1", True),
        (f"{VIEW.name}@{VIEW.version}#cus_10", False),
        (f"{VIEW.name}@{VIEW.version}#cus_1/0", False),
        (f"{HOT.name}@{HOT.version}#cus_1/0", False),
        ("view_of_old@00000000#cus_1/3", True),
        ("view_of_old@00000000#cus_1/x", False),
        ("view_of_old@00000000#x#cus_1", False),
    ],
)
def test_which_items_are_the_persons(key, theirs):
    assert PERSON.owns(key, DEFINITIONS) == theirs
    line = json.dumps({"key": key, "birth": 1, "n": 1, "applied_at": 1, "event_ids": ["e"]}).encode()
    assert CommitLines(PERSON, DEFINITIONS, {})(line) == (None if theirs else line)


def test_the_log_of_an_item_that_lives_again_stays():
    key = f"{VIEW.name}@{VIEW.version}#cus_1"
    old, new = (json.dumps({"key": key, "birth": birth, "n": 1}).encode() for birth in (1, 2))
    rule = CommitLines(PERSON, DEFINITIONS, {key: 2})
    assert (rule(old), rule(new)) == (None, new)


@pytest.mark.parametrize(
    ("inner", "goes"),
    [
        (envelope("refund.created", BOTH, **REFUND), True),
        (json.dumps({"key": f"{VIEW.name}@{VIEW.version}#cus_1"}).encode(), True),
        (envelope("refund.created", {"customer": "cus_2"}, **REFUND), False),
        (b"no JSON", False),
    ],
)
def test_what_was_not_delivered_goes_whole(inner, goes):
    line = json.dumps({"errorCode": "x", "rawData": b64encode(inner).decode()}).encode()
    assert (UndeliveredLines(PERSON, DEFINITIONS)(line) is None) == goes


def test_who_it_is_is_not_printed():
    assert "cus_1" not in f"{PERSON} {PERSON!r}"


@pytest.fixture
def bucket():
    with mock_aws():
        s3 = boto3.client("s3", "us-east-1")
        s3.create_bucket(Bucket="archive")
        s3.put_bucket_versioning(Bucket="archive", VersioningConfiguration={"Status": "Enabled"})
        yield VersionedBucket(s3, "archive")


def put(key: str, body: bytes, **more: Any) -> None:
    boto3.client("s3", "us-east-1").put_object(Bucket="archive", Key=key, Body=body, **more)


def versions(key: str) -> list[bytes]:
    s3 = boto3.client("s3", "us-east-1")
    stored = s3.list_object_versions(Bucket="archive", Prefix=key).get("Versions", [])
    return [
        s3.get_object(Bucket="archive", Key=key, VersionId=version["VersionId"])["Body"].read()
        for version in stored
    ]


def without_x(line: bytes) -> bytes | None:
    return None if line.startswith(b"x") else line


CHANGE = changed_lines(without_x)


def test_an_object_is_rewritten_as_it_was_and_its_old_versions_go(bucket):
    for body in (b"x1\n", b"a\n", b"x1\na\n"):
        put("k", gzip.compress(body), ContentType="text/x", Metadata={"m": "1"}, StorageClass="STANDARD_IA")
    assert bucket.clean("k", CHANGE) == 2
    assert [gzip.decompress(body) for body in versions("k")] == [b"a\n", b"a\n"]
    answer = bucket.read("k")
    assert (answer["ContentType"], answer["Metadata"], answer["StorageClass"]) == (
        "text/x",
        {"m": "1"},
        "STANDARD_IA",
    )


def test_what_was_deleted_before_is_cleaned_behind_its_marker(bucket):
    put("k", b"x1\n")
    boto3.client("s3", "us-east-1").delete_object(Bucket="archive", Key="k")
    bucket.clean("k", CHANGE)
    assert not bucket.versions("k")


def test_one_that_others_rewrite_meanwhile_is_read_again(bucket, monkeypatch):
    put("k", b"x1\na\n")
    replaced, rounds = bucket.put, []

    def overtaken(key: str, body: bytes, like: Any) -> None:
        if not rounds:
            rounds.append(1)
            put("k", b"x1\nx2\nb\n")
        replaced(key, body, like)

    monkeypatch.setattr(bucket, "put", overtaken)
    bucket.clean("k", CHANGE)
    assert versions("k") == [b"b\n"]


def test_one_that_is_overtaken_again_and_again_is_given_up(bucket, monkeypatch):
    put("k", b"x1\n")
    replaced = bucket.put

    def overtaken(key: str, body: bytes, like: Any) -> None:
        put("k", b"x1\nx%d\n" % len(versions("k")))
        replaced(key, body, like)

    monkeypatch.setattr(bucket, "put", overtaken)
    with pytest.raises(StoreUnavailable, match="run this again"):
        bucket.clean("k", CHANGE)


def test_half_an_object_is_not_rewritten(bucket):
    put("k", gzip.compress(b"x1\n")[:-4])
    with pytest.raises(ArchiveDamaged, match="k: "):
        bucket.clean("k", changed_lines(without_x, "k"))
    assert len(versions("k")) == 1


def test_how_long_a_prefix_is_kept_is_the_buckets_own_rule(bucket):
    assert bucket.expiry_days("decisions/") is None
    rules = [
        {"ID": "a", "Filter": {"Prefix": "runs/"}, "Status": "Enabled", "Expiration": {"Days": 5}},
        {"ID": "b", "Filter": {"Prefix": "decisions/"}, "Status": "Enabled", "Expiration": {"Days": 90}},
    ]
    boto3.client("s3", "us-east-1").put_bucket_lifecycle_configuration(
        Bucket="archive", LifecycleConfiguration={"Rules": rules}
    )
    assert (bucket.expiry_days("decisions/"), bucket.expiry_days("events/")) == (90, None)


def dataset(ids: list[str]) -> bytes:
    out = io.BytesIO()
    pq.write_table(
        pa.table({"row_id": pa.array(ids, pa.string()), "bad": pa.array([1] * len(ids), pa.int8())}), out
    )
    return out.getvalue()


KEY, MANIFEST = "runs/r/dataset.parquet", "runs/r/manifest.json"


def test_a_data_set_and_its_manifest_stay_of_one_mind(bucket):
    before = dataset(["a", "b"])
    put(KEY, before)
    put(MANIFEST, json.dumps({"rows": 2, "bads": 2, "sha256": hashlib.sha256(before).hexdigest()}).encode())
    clean_run(bucket, KEY, without_rows({"a"}))
    [body] = versions(KEY)
    manifest = json.loads(bucket.read(MANIFEST)["Body"])
    assert pq.read_table(io.BytesIO(body))["row_id"].to_pylist() == ["b"]
    assert manifest == {
        "rows": 1,
        "bads": 1,
        "sha256": hashlib.sha256(body).hexdigest(),
        "sha256_before_erasures": [hashlib.sha256(before).hexdigest()],
    }


def test_a_data_set_that_cannot_be_read_goes_whole(bucket):
    put(KEY, b"no parquet")
    put(MANIFEST, b"{}")
    clean_run(bucket, KEY, without_rows({"a"}))
    assert not bucket.versions("runs/")


def test_a_data_set_without_the_person_or_without_a_manifest(bucket):
    body = dataset(["b"])
    put(KEY, body)
    clean_run(bucket, KEY, without_rows({"a"}))
    assert versions(KEY) == [body]
    clean_run(bucket, KEY, without_rows({"b"}))
    assert pq.read_table(io.BytesIO(bucket.read(KEY)["Body"])).num_rows == 0
