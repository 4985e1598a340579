"""`candor features erase`: no trace of the person is left and other data is unchanged, wherever it is interrupted."""

from __future__ import annotations

import gzip
import io
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.client import BaseClient
from moto import mock_aws
from msgspec.structs import replace

import cli.features.backfill
from candor import Count, Definitions, FeatureView
from candor.clock import DAY, SystemClock, parse_rfc3339
from candor.contracts import Event
from candor.features.event_types import DECIDED
from candor.features.state import ViewState
from candor.store.dynamodb import DynamoFeatureStore, FeatureItem, bound
from candor.store.erasures import Erasures
from candor.store.protocol import marker_key
from history.index.bucket import ArchiveBucket
from history.index.history import EntityHistory
from history.index.kinds import KINDS
from history.index.read import ArchiveIndex
from history.index.refresh import refresh
from lender import DEFINITIONS
from tests.cli.deployed import REGION, Deployed, call, called
from tests.handlers.checkouts import checkout

PERSON, NEIGHBOUR, PARTNER = "person_7f3a", "person_7f3a1", "cus_2"
"""Person to erase; a customer whose token begins alike; another customer of the same merchant and device."""

ENTITY = f"customer:{PERSON}"
ERASE = ("erase", "--entity", ENTITY, "--yes", "--json")
OF_CUSTOMERS = [view for view in DEFINITIONS.kept if view.entity.name == "customer"]
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "PutObject", "DeleteObject"}
ARCHIVED = parse_rfc3339("2026-11-25T00:00:00Z")
"""Past the hour into which the stage's archive delivers."""

DATASET = "runs/r1/dataset/dataset.parquet"
MANIFEST = "runs/r1/dataset/manifest.json"


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield Deployed()


def lived(token: str, days_ago: int = 40) -> list[Event]:
    """Events of a customer's month: a checkout on a device, a loan, payments, a dispute with the merchant."""
    start = SystemClock().now_ms() - days_ago * DAY
    name = f"e{sum(token.encode())}-{days_ago}"
    customer, merchant = {"customer": token}, {"customer": token, "merchant": "mer_1"}
    request = checkout(token=token, checkout_id=f"chk-{name}")
    money = {"loan_id": f"loan-{name}", "amount": 4_000, "currency": "USD"}
    started = {"checkout_id": f"chk-{name}", "total": 4_000, "currency": "USD", "applicant": token}
    loan = {"checkout_id": f"chk-{name}", "first_due_at": start + 14 * DAY, "final_due_at": start + 28 * DAY}
    dispute = {"dispute_id": f"dis-{name}", "amount": 4_000, "currency": "USD"}
    return [
        Event(
            f"{name}-1",
            "checkout.started",
            start,
            {**merchant, "device": "dev_1"},
            {**started, "checkout": request},
        ),
        Event(f"{name}-2", "loan.originated", start + 1, merchant, {**money, **loan}),
        Event(f"{name}-3", "payment.succeeded", start + 14 * DAY, customer, {**money, "days_late": 1}),
        Event(f"{name}-4", "dispute.opened", start + 20 * DAY, merchant, dispute),
        Event(f"{name}-5", "payment.failed", start + 28 * DAY, customer, {**money, "failure_code": "nsf"}),
    ]


def populated(stage: Deployed) -> None:
    """Fill items, log, archive (old versions too), undelivered records and training data with three customers."""
    for token in (PERSON, NEIGHBOUR, PARTNER):
        stage.happen(lived(token))
    stage.deliver("features")
    stage.put("events/", [b'{"time": "2026-11-24T08:00:00Z", "detail": {"refused": "person_7f3a"}}'])
    stage.put("undelivered/", [b64(lived(token)[0]) for token in (PERSON, PARTNER)])
    first, *_ = objects("archive", "events/")
    body = boto3.client("s3").get_object(Bucket="archive", Key=first)["Body"].read()
    boto3.client("s3").put_object(Bucket="archive", Key=first, Body=body)  # the old one is kept behind it
    trained([lived(token)[0].data["checkout_id"] for token in (PERSON, NEIGHBOUR, PARTNER)])


def b64(event: Event) -> bytes:
    """Record of a failed delivery, as Firehose writes it."""
    detail = {"entities": dict(event.entities), "data": dict(event.data)}
    raw = json.dumps({"time": "2026-11-24T08:00:00Z", "detail": detail}).encode()
    return json.dumps({"errorCode": "S3.AccessDenied", "rawData": b64encode(raw).decode()}).encode()


def trained(checkouts: list[str]) -> None:
    """Write a data set as a training run does."""
    out = io.BytesIO()
    rows = {"row_id": pa.array(checkouts, pa.string()), "bad": pa.array([1, 0, 0], pa.int8())}
    pq.write_table(pa.table(rows), out)
    s3 = boto3.client("s3")
    s3.put_object(Bucket="training", Key=DATASET, Body=out.getvalue())
    s3.put_object(
        Bucket="training", Key=MANIFEST, Body=json.dumps({"rows": 3, "bads": 1, "sha256": "0"}).encode()
    )


def objects(bucket: str, prefix: str = "") -> list[str]:
    contents = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in contents]


def every_version(bucket: str) -> Iterator[tuple[str, bytes]]:
    """Key and plain bytes of every object version of the bucket."""
    s3 = boto3.client("s3")
    for version in s3.list_object_versions(Bucket=bucket).get("Versions", []):
        options = {"VersionId": version["VersionId"]} if version["VersionId"] != "null" else {}
        body = s3.get_object(Bucket=bucket, Key=version["Key"], **options)["Body"].read()
        yield version["Key"], gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def lines(prefix: str) -> list[bytes]:
    return [
        line
        for key, body in every_version("archive")
        if key.startswith(prefix)
        for line in body.split(b"\n")
        if line
    ]


def items() -> dict[str, dict[str, Any]]:
    """All items of both feature tables."""
    client = boto3.client("dynamodb")
    pages = [client.scan(TableName=table)["Items"] for table in ("features", "synchronous")]
    return {item["pk"]["S"]: item for page in pages for item in page}


def assert_gone(*, but: bytes = b"") -> None:
    """No byte of the token anywhere but in keys of tombstones, in stored decisions, and in `but`."""

    def without(body: bytes) -> bytes:
        return body.replace(NEIGHBOUR.encode(), b"").replace(but or b"\0", b"")

    for bucket in ("archive", "training"):
        for key, body in every_version(bucket):
            assert key.startswith("decisions/") or PERSON.encode() not in without(body), key
    for key, item in items().items():
        entity = key.rpartition("#")[2]
        assert PERSON not in key.replace(NEIGHBOUR, "") or entity == PERSON
        if entity == PERSON:
            view = next(view for view in OF_CUSTOMERS if key in view.item_keys(PERSON))
            state = ViewState.decode(view, bytes(item["b"]["B"]))
            assert (state.base.head, state.base.tiles, state.base.singles, state.erased_at is not None) == (
                [],
                {},
                {},
                True,
            )
            assert "ttl" in item
        assert PERSON.encode() not in without(bytes(item.get("b", {}).get("B", b"")))
    registry = boto3.client("dynamodb").scan(TableName="registry")["Items"]
    assert PERSON not in json.dumps(registry)
    checkouts = pq.read_table(io.BytesIO(dict(every_version("training"))[DATASET]))["row_id"].to_pylist()
    assert checkouts == [lived(token)[0].data["checkout_id"] for token in (NEIGHBOUR, PARTNER)]


def erased(*words: str) -> dict[str, Any]:
    result = call(*ERASE, *words)
    assert (result.exit_code, PERSON in result.output) == (0, False), result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def place(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in report["places"] if row["name"] == name)


def features_of(token: str) -> dict[str, Any]:
    """States and values of all views of a customer."""
    answers = [json.loads(call("show", view.name, token, "--json").stdout) for view in OF_CUSTOMERS]
    return {answer["view"]: (answer["state"], answer["features"]) for answer in answers}


def test_nothing_of_the_person_is_left_and_the_report_says_what_was_done(stage):
    populated(stage)
    stage.decide("before", PERSON)
    stage.deliver()
    report = erased("--reason", "asked by letter")
    assert_gone()
    assert report["found_now"]
    assert place(report, "archived events") | {"why": ""} == {
        "name": "archived events",
        "found": 7,
        "rewritten": 4,
        "deleted": 3,
        "kept": 0,
        "old_versions": 1,
        "until": None,
        "why": "",
    }
    known_types = {event.type for event in lived(PERSON)} | {DECIDED}
    counting = [view for view in OF_CUSTOMERS if known_types & set(view.event_types)]
    assert place(report, "feature items")["found"] == len(counting)
    assert place(report, "training rows")["deleted"] == 1
    assert place(report, "undelivered records")["deleted"] == 1
    assert place(report, "log of commits")["deleted"] == place(report, "log of commits")["found"] > 0
    assert place(report, "stored decisions")["kept"] == place(report, "archived decisions")["kept"] == 1
    known = Erasures("registry").find("customer", PERSON)
    assert known is not None
    assert (known.finished, known.reason) == (True, "asked by letter")


def tables() -> dict[str, list[dict[str, Any]]]:
    """Rows of every version of the archive's tables, by table."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for key, body in every_version("archive"):
        if key.startswith("tables/"):
            rows.setdefault(key.split("/")[1], []).extend(pq.read_table(io.BytesIO(body)).to_pylist())
    return rows


def test_a_person_is_gone_from_the_tables_in_all_their_versions(stage):
    populated(stage)
    stage.deliver()
    for command in ("compact", "compact"):
        assert called("archive", command).exit_code == 0
    before = tables()
    assert PERSON in json.dumps(before["events"], default=str).replace(NEIGHBOUR, "")
    erased()
    after = tables()
    for name in ("events", "commits"):
        assert PERSON not in json.dumps(after[name], default=str).replace(NEIGHBOUR, ""), name
    kept = [row for row in before["events"] if ("customer", NEIGHBOUR) in (row["entities"] or ())]
    assert kept
    assert [row for row in after["events"] if row in kept] == kept
    assert json.loads(called("archive", "compact", "--json").stdout)["tables"][0]["written"] == 0


def index_everything() -> None:
    """Index the whole archive at a fixed moment."""
    for kind in KINDS:
        assert refresh(ArchiveBucket(boto3.client("s3"), "archive"), kind, ARCHIVED).written == 1


def indexed() -> dict[str, list[bytes]]:
    """Lines of every version of the index objects, by period."""
    return {
        key.rpartition(".")[0]: re.findall(rb"^[0-9a-f]{16} [0-9a-f]+ (\{.*\})$", body, re.MULTILINE)
        for key, body in every_version("archive")
        if key.startswith("index/")
    }


def test_a_person_is_gone_from_the_index_and_the_others_are_in_it(stage):
    populated(stage)
    stage.deliver()
    index_everything()
    before = indexed()
    assert before.keys() == {"index/events/20261124T08.001h", "index/commits/20261124T08.001h"}
    erased()
    assert_gone()
    after = indexed()
    assert after.keys() == before.keys()
    for kind in KINDS:
        assert refresh(ArchiveBucket(boto3.client("s3"), "archive"), kind, ARCHIVED).kept == 1
    view = next(view for view in OF_CUSTOMERS if view.name == "customer_loans")
    [key] = view.item_keys(NEIGHBOUR)
    index = ArchiveIndex(ArchiveBucket(boto3.client("s3"), "archive"))
    history = EntityHistory(index, DEFINITIONS, {key: view})
    history.update()
    assert list(history.memory.items[key]) == [
        event.id for event in lived(NEIGHBOUR) if event.type in view.event_types
    ]
    assert history.memory.log.of(key)


def test_everything_of_others_stays_as_it_was(stage):
    populated(stage)
    before, archived = items(), [*lines("events/"), *lines("commits/")]
    erased()
    after = items()
    theirs = {key for key in before if not key.endswith(f"#{PERSON}")}
    assert theirs == {key for key in after if not key.endswith(f"#{PERSON}")}
    assert all(after[key] == before[key] for key in theirs)
    for line in archived:
        if PERSON.encode() not in line.replace(NEIGHBOUR.encode(), b""):
            assert line in lines("")
    manifest = json.loads(dict(every_version("training"))[MANIFEST])
    assert (manifest["rows"], manifest["bads"]) == (2, 0)


def test_decisions_about_others_are_found_again_and_the_persons_are_told(stage):
    populated(stage)
    stage.decide("theirs", PARTNER)
    stage.decide("erased", PERSON)
    stage.deliver()
    assert json.loads(call("replay", "--json").stdout)["exact"] == 2
    erased()
    replay = json.loads(call("replay", "--json").stdout)
    assert (replay["exact"], replay["different"]) == (1, 0)
    assert replay["not_replayable"] == {"a person in it was erased since": 1}
    report = json.loads(call("consistency", "--json").stdout)
    assert (report["as_served_mismatches"], report["compared"], report["unexplained"]) == (0, 1, [])


def test_what_is_delivered_again_does_not_come_back_and_what_happens_anew_counts(stage):
    populated(stage)
    nobody = features_of("nobody")
    erased()
    stage.happen(lived(PERSON))
    assert {name: values for name, (_, values) in features_of(PERSON).items()} == {
        name: values for name, (_, values) in nobody.items()
    }
    anew = lived(PERSON, days_ago=0)[:1]
    payment = {"loan_id": "l", "amount": 100, "currency": "USD", "days_late": 3}
    new = Event("new", "payment.succeeded", SystemClock().now_ms() + 1, {"customer": PERSON}, payment)
    stage.happen([*anew, new])
    assert features_of(PERSON)["customer_repayments"][1]["customer_repayments.paid.lifetime"] == 1.0
    stage.deliver()
    stage.decide("after", PERSON)
    stage.deliver()
    replay = json.loads(call("replay", "--json").stdout)
    assert (replay["exact"], replay["different"], replay["not_replayable"]) == (1, 0, {})


def test_copies_that_came_late_go_with_the_second_run_and_what_is_new_stays(stage):
    populated(stage)
    erased()
    payment = {"loan_id": "l", "amount": 100, "currency": "USD", "days_late": 3}
    new = Event("new", "payment.succeeded", SystemClock().now_ms() + 1, {"customer": PERSON}, payment)
    stage.happen([new])
    stage.archive_events(lived(PERSON))
    stage.deliver()
    report = erased()
    assert (report["found_now"], place(report, "archived events")["found"]) == (True, 5)
    assert "1 later events are left" in place(report, "archived events")["why"]
    assert [
        json.loads(line)["event"]["detail"]["event_id"]
        for line in lines("events/")
        if f'"{PERSON}"'.encode() in line
    ] == ["new"]
    assert features_of(PERSON)["customer_repayments"][1]["customer_repayments.paid.lifetime"] == 1.0
    assert erased("--again")["found_now"]
    assert_gone()


def test_a_view_filled_later_knows_nothing_of_the_person(stage, monkeypatch):
    populated(stage)
    erased()
    stage.archive_events(lived(PERSON))
    old = next(view for view in DEFINITIONS.views if view.name == "customer_failures")
    new = FeatureView(old.name, old.entity, old.events, [Count(name="count")], ["60d"])
    kept = Definitions(
        entities=DEFINITIONS.entities.values(),
        events=DEFINITIONS.event_types.values(),
        views=DEFINITIONS.views,
        candidate_views=[new],
        on_demand=DEFINITIONS.on_demand,
    )
    monkeypatch.setattr(cli.features.backfill, "DEFINITIONS", kept)
    result = call("backfill", new.name, "--to", new.version, "--json")
    summary = json.loads(result.stdout)
    assert (summary["items"], summary["different"]) == (2, 0)
    assert not DynamoFeatureStore("features").load(new.item_keys(PERSON))[new.item_keys(PERSON)[0]].blob


def test_a_second_run_finds_nothing_left(stage):
    populated(stage)
    erased()
    writes = []
    report = watched(writes, erased)
    assert (report["found_now"], writes) == (False, [])


def watched(writes: list[str], run: Any, dies_at: int | None = None) -> Any:
    """Run `run`, noting each write; raise Killed before write number `dies_at`."""
    original = BaseClient._make_api_call

    def called(self: BaseClient, operation: str, given: Any) -> Any:
        if operation in WRITES:
            writes.append(operation)
            if len(writes) == dies_at:
                raise Killed
        return original(self, operation, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", called)
        return run()


class Killed(BaseException):
    """Exception that no `except` of the program catches."""


def contents() -> dict[str, Any]:
    """Contents of stores and buckets, without random values and times."""
    archived = sorted(
        (key, stable(body))
        for key, body in every_version("archive")
        if not key.startswith(("index/", "tables/"))
    )
    held = {key: item.get("b") for key, item in items().items() if not key.endswith(f"#{PERSON}")}
    random = ("birth", "applied_at")
    rows = {
        name: [
            stable(repr([value for column, value in row.items() if column not in random]).encode())
            for row in table_rows
        ]
        for name, table_rows in tables().items()
    }
    index = {key: sorted(map(stable, lines)) for key, lines in indexed().items()}
    training = sorted(every_version("training"))
    return {"archive": archived, "tables": rows, "index": index, "items": held, "training": training}


def stable(body: bytes) -> bytes:
    return re.sub(rb'erased_[0-9a-f]{32}|"(birth|applied_at)":[0-9]+', b"", body)


@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_at_any_write_it_goes_on(monkeypatch, every):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr(SystemClock, "now_ms", lambda self: NOW)
    with mock_aws():
        populated_and_compacted()
        erased()
        whole = contents()
    for step in count(1, every):
        with mock_aws():
            populated_and_compacted()
            writes: list[str] = []
            try:
                watched(writes, lambda: call(*ERASE), step)
            except Killed:
                erased()
            assert_gone()
            assert contents() == whole
        if len(writes) < step:
            assert step > 20
            break


def populated_and_compacted() -> None:
    populated(Deployed())
    assert called("archive", "compact").exit_code == 0
    index_everything()


NOW = SystemClock().now_ms()


def test_a_dry_run_counts_and_changes_nothing(stage):
    populated(stage)
    writes: list[str] = []
    result = watched(writes, lambda: call("erase", "--entity", ENTITY, "--dry-run", "--json"))
    report = json.loads(result.stdout)
    assert (result.exit_code, writes, report["found_now"]) == (0, [], True)
    assert place(report, "archived events")["found"] == 6
    assert Erasures("registry").find("customer", PERSON) is None


def test_it_asks_before_and_no_means_no(stage):
    populated(stage)
    writes: list[str] = []
    result = watched(writes, lambda: call("erase", "--entity", ENTITY))
    assert (result.exit_code, writes) == (1, [])
    assert "Erase this customer for good? [y/N]" in result.stderr
    assert "archived events" in result.stdout
    assert PERSON not in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--entity", "customer:nobody"], "no event and no item names this customer"),
        (["--entity", PERSON], "give --entity kind:token, of one of customer, merchant, device"),
        (["--entity", "person:x"], "give --entity kind:token"),
        (["--entity", "customer:"], "give --entity kind:token"),
    ],
)
def test_who_is_not_known_is_not_erased(stage, words, said):
    populated(stage)
    writes: list[str] = []
    result = watched(writes, lambda: call("erase", *words, "--yes"))
    assert (result.exit_code, writes, "Traceback" in result.stderr) == (1, [], False)
    assert said in result.stderr


def test_a_damaged_archive_stops_it_before_anything_is_changed(stage):
    populated(stage)
    [first, *_] = objects("archive", "commits/")
    half = boto3.client("s3").get_object(Bucket="archive", Key=first)["Body"].read()[:-20]
    boto3.client("s3").put_object(Bucket="archive", Key=first, Body=half)
    writes: list[str] = []
    result = watched(writes, lambda: call(*ERASE))
    assert (result.exit_code, writes) == (1, [])
    assert first in result.stderr


def test_it_waits_for_a_retraining_that_has_read_the_archive(stage):
    populated(stage)
    [machine] = boto3.client("stepfunctions").list_state_machines()["stateMachines"]
    boto3.client("stepfunctions").start_execution(stateMachineArn=machine["stateMachineArn"])
    writes: list[str] = []
    result = watched(writes, lambda: call(*ERASE))
    assert (result.exit_code, writes) == (1, [])
    assert "a retraining is running" in result.stderr


def test_markers_and_items_of_views_that_are_declared_no_more_go_with_the_rest(stage):
    populated(stage)
    table = bound(FeatureItem, "features")
    gone = f"old_view@00000000#{PERSON}"
    table(gone, state=b"x", birth=1, number=1).save()
    table(f"old_view@00000000#{NEIGHBOUR}", state=b"x", birth=1, number=1).save()
    table(marker_key(gone, "e1")).save()
    stage.put(
        "commits/",
        [json.dumps({"key": gone, "birth": 1, "n": 1, "applied_at": 1, "event_ids": ["e1"]}).encode()],
    )
    report = erased()
    assert place(report, "old items, markers")["deleted"] >= 1
    assert gone not in items()
    assert f"old_view@00000000#{NEIGHBOUR}" in items()


def test_items_that_no_log_names_are_found_by_a_scan(stage):
    populated(stage)
    gone = f"old_view@00000000#{PERSON}"
    bound(FeatureItem, "features")(gone, state=b"x", birth=1, number=1).save()
    erased()
    assert gone in items()
    report = erased("--scan")
    assert (report["found_now"], place(report, "old items, markers")["deleted"]) == (True, 1)
    assert gone not in items()


def test_an_id_that_spells_the_token_stays_and_is_told(stage):
    populated(stage)
    [first, *_] = lived(PERSON, 20)
    named = replace(first, id=f"{PERSON}-1")
    stage.happen([named])
    stage.deliver()
    report = erased()
    assert "1 of their ids contain the token" in place(report, "archived events")["why"]
    assert_gone(but=named.id.encode())


def test_the_report_is_a_table_for_people(stage):
    populated(stage)
    result = call("erase", "--entity", ENTITY, "--yes")
    assert result.exit_code == 0
    assert "feature items: tombstones stay until nothing can be redelivered" in result.stdout
    assert "archived events" in result.stdout
    assert "Run it once more after" in result.stdout
