"""`candor events import`: as if the queue had brought the events, once each, whatever happens meanwhile."""

import contextlib
import csv
import json
from itertools import count

import boto3
import botocore.client
import pytest
from moto import mock_aws

from candor.clock import DAY, HOUR, MINUTE, FixedClock, SystemClock, format_rfc3339
from candor.contracts import HISTORY, Event, parse_event
from candor.features.codec import id_hash
from candor.features.state import RING_IDS, ViewState
from candor.ingest import ingest
from candor.registry.imports import ARCHIVED, DONE, Imports
from candor.store.erasures import Erasures
from candor.store.memory import MemoryFeatureStore
from candor.store.protocol import marker_key
from cli.stage import Stage
from history.archive.commits import COMMITS_PREFIX, read_log
from history.archive.events import EVENTS_PREFIX, read_envelopes, read_event
from history.imports.mapping import read_mapping
from history.imports.sql import EventQuery, connected
from history.rebuild.rebuild import ArchivedItems, rebuild
from lender import DEFINITIONS
from tests.cli.deployed import REGION, RETENTION, Deployed, called
from tests.moto_lock import serialize_calls

serialize_calls()

NOW = 1_796_000_000_000
MANY = RING_IDS + 40
"""Events of a busy customer: more than its items' rings hold."""

MAPPING = """
[rows.loans]
files = "loans*.csv"
timezone = "Europe/Berlin"

[[event]]
rows = "loans"
type = "loan.originated"
id = "'loan_' || loan"
occurred_at = "opened"
entities.customer = "customer"
entities.merchant = "shop"
data.checkout_id = "'chk_' || loan"
data.loan_id = "loan"
data.amount = "money(principal, 'EUR')"
data.currency = "'EUR'"
data.first_due_at = "due"
data.final_due_at = "due"

[[event]]
rows = "loans"
type = "payment.succeeded"
id = "'paid_' || loan"
where = "paid IS NOT NULL"
occurred_at = "paid"
voided_at = "reversed"
entities.customer = "customer"
data.loan_id = "loan"
data.amount = "money(principal, 'EUR')"
data.currency = "'EUR'"
data.days_late = "date_diff('day', due, paid)"
"""


@pytest.fixture(autouse=True)
def fixed_moment(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr(SystemClock, "now_ms", lambda self: NOW)


@pytest.fixture
def stage():
    with mock_aws():
        yield deployed()


def deployed() -> Deployed:
    queue = boto3.client("sqs").create_queue(QueueName="stale")["QueueUrl"]
    return Deployed(StaleItemsUrl=queue)


@pytest.fixture
def files(tmp_path):
    """A folder of loans in two files, and their mapping: one customer is busy, and one payment was reversed."""
    (tmp_path / "map.toml").write_text(MAPPING)
    rows = [_loan(number, "cus_busy") for number in range(MANY)]
    rows += [_loan(MANY + number, f"cus_{number}") for number in range(8)]
    rows[3]["reversed"] = _text(NOW - 2 * DAY)
    rows[5]["paid"] = ""
    for name, part in {"loans_1.csv": rows[::2], "loans_2.csv": rows[1::2]}.items():
        with (tmp_path / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(part)
    return tmp_path


def _loan(number: int, customer: str) -> dict[str, str]:
    opened = NOW - 300 * DAY + number * HOUR
    return {
        "loan": f"l{number}",
        "customer": customer,
        "shop": f"shop_{number % 3}",
        "principal": f"{100 + number}.05",
        "opened": _text(opened),
        "due": _text(opened + 30 * DAY),
        "paid": _text(opened + (29 + number % 4) * DAY),
        "reversed": "",
    }


def _text(moment: int) -> str:
    """Local time in Berlin's winter and summer is ahead of UTC: the mapping names the zone."""
    return format_rfc3339(moment).replace("T", " ").removesuffix("Z")


def run(files, *options: str, result: int = 0):
    done = called("events", "import", str(files), "--map", str(files / "map.toml"), *options, "--json")
    assert done.exit_code == result, done.output
    return json.loads(done.stdout) if done.stdout else done.output


def mapped_events(folder) -> list[Event]:
    """The events that the mapping makes, in time order."""
    paths = sorted(folder.glob("*.csv"))
    with connected(paths, folder) as engine:
        query = EventQuery(engine, read_mapping(MAPPING, DEFINITIONS), paths)
        return [parse_event(row.detail, HISTORY) for batch in query.batches(1_000) for row in batch]


def archived_events(stage_: Stage) -> list[Event]:
    return [read_event(envelope) for envelope in read_envelopes(stage_.archive(EVENTS_PREFIX))]


def items() -> dict[str, dict]:
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName="features")
    return {item["pk"]["S"]: item for page in pages for item in page["Items"]}


def states() -> dict[str, ViewState]:
    views = {f"{view.name}@{view.version}": view for view in DEFINITIONS.kept}
    return {
        key: ViewState.decode(views[key.partition("#")[0]], bytes(item["b"]["B"]))
        for key, item in items().items()
        if "b" in item
    }


def comparable(state: ViewState, known: set[str]) -> tuple:
    """Values and known ids of an item, without when and in how many writes it came to them."""
    ids = {id_hash(name) for name in known}
    return state.base, state.born, state.latest, state.expired, set(state.ring) | ids, state.stale


def marked_ids(events: list[Event]) -> dict[str, set[str]]:
    stored = items()
    by_key: dict[str, set[str]] = {}
    for event in events:
        for view in DEFINITIONS.views_by_event[event.type]:
            token = event.entities.get(view.entity.name)
            if token is not None:
                key = view.item_key(token, event.id)
                if marker_key(key, event.dedup_id) in stored:
                    by_key.setdefault(key, set()).add(event.dedup_id)
    return by_key


def snapshot(events: list[Event]) -> dict[str, tuple]:
    marks = marked_ids(events)
    return {key: comparable(state, marks.get(key, set())) for key, state in states().items()}


def by_queue(events: list[Event], size: int = 100) -> dict[str, tuple]:
    """The items after the queue has brought these events."""
    store = MemoryFeatureStore()
    for start in range(0, len(events), size):
        outcome = ingest(events[start : start + size], DEFINITIONS, store, FixedClock(NOW), RETENTION)
        assert not outcome.failed
        assert not outcome.refused
    views = {f"{view.name}@{view.version}": view for view in DEFINITIONS.kept}
    marks: dict[str, set[str]] = {}
    for key, event_id in store.marks:
        marks.setdefault(key, set()).add(event_id)
    return {
        key: comparable(ViewState.decode(views[key.partition("#")[0]], read.blob), marks.get(key, set()))
        for key, read in store.items.items()
    }


def test_items_and_known_ids_are_those_that_the_queue_would_have_left(stage, files):
    summary = run(files)
    events = archived_events(Stage("dev"))
    assert summary["read"]["events"] == {"loan.originated": MANY + 8, "payment.succeeded": MANY + 8}
    assert sum(event.voided_at is not None for event in events) == 1
    assert events == sorted(events, key=lambda event: event.moment)
    assert summary["filled"]["failures"] == {}
    held = snapshot(events)
    assert held == by_queue(events)
    busy = [key for key in held if key.endswith("#cus_busy")]
    assert busy
    assert all(len(held[key][4]) > RING_IDS for key in busy if "loans" in key)


def test_the_mapping_gives_exact_amounts_and_moments_of_its_zone(stage, files):
    run(files)
    events = {event.id: event for event in archived_events(Stage("dev")) if event.voided_at is None}
    loan = events["loan_l7"]
    assert loan.data["amount"] == 10_705
    opened = NOW - 300 * DAY + 7 * HOUR
    assert loan.occurred_at in (opened - HOUR, opened - 2 * HOUR)
    assert loan.data["first_due_at"] - loan.occurred_at in (30 * DAY, 30 * DAY - HOUR, 30 * DAY + HOUR)
    assert loan.entities == {"customer": "cus_busy", "merchant": "shop_1"}


def test_a_second_import_changes_nothing(stage, files):
    run(files)
    before = items()
    assert run(files)["done_before"]
    (files / "map.toml").write_text(MAPPING + "\n# the same once more\n")
    again = run(files)
    assert again["read"]["events"] == {}
    assert again["read"]["already_archived"] == 2 * (MANY + 8)
    assert items() == before


def test_a_dry_run_writes_nothing(stage, files):
    summary = run(files, "--dry-run")
    assert summary["items"] > 15
    assert not summary["written"]
    assert not items()
    assert Imports("registry").unfinished() is None
    assert not boto3.client("s3").list_objects_v2(Bucket="archive").get("Contents")


def test_refused_events_are_listed_with_code_and_field_and_stop_everything(stage, files):
    with (files / "loans_1.csv").open("a") as stream:
        stream.write(f"bad1,,shop_1,10.00,{_text(NOW - DAY)},{_text(NOW)},,\n")
        stream.write(f"bad2,cus_x,shop_1,10.001,{_text(NOW - DAY)},{_text(NOW)},,\n")
        stream.write(f"bad3,cus_x,shop_1,1.00,{_text(NOW + 9 * DAY)},{_text(NOW)},,\n")
    done = called("events", "import", str(files), "--map", str(files / "map.toml"), "--json")
    assert done.exit_code == 1
    summary = json.loads(done.stdout)
    assert "nothing was written" in done.stderr
    assert {(row["event_id"], row["code"], row["field"]) for row in summary["read"]["refusals"]} == {
        ("loan_bad2", "invalid_field", "data.amount"),
        ("loan_bad3", "occurred_in_future", "occurred_at"),
    }
    assert not items()
    assert run(files, "--skip-refused")["filled"]["items"] > 15


def test_an_event_of_an_erased_person_is_refused(stage, files):
    Erasures("registry").begin("customer", "cus_3", NOW - DAY, "asked for it")
    summary = run(files, "--skip-refused")
    assert summary["read"]["refused"] == {"erased": 2}
    assert not [key for key in items() if key.endswith("#cus_3")]


def test_copies_that_the_queue_brings_before_and_after_count_once(stage, files):
    events = mapped_events(files)
    plain = [event for event in events if event.voided_at is None]
    some = plain[:40] + plain[400:440]
    stage.apply(some)
    run(files)
    stage.apply(plain[30:60] + some)
    assert snapshot(events) == by_queue(events)


def test_events_of_a_long_time_ago_that_the_archive_holds_are_left_out(stage, files):
    """Their ids may be forgotten by the items: the archive remembers."""
    events = mapped_events(files)
    early = [event for event in events if event.voided_at is None][:50]
    long_ago = NOW - 2 * RETENTION.event_ids
    stage.archive_events(early, long_ago)
    stage.apply(early, FixedClock(long_ago))
    summary = run(files)
    assert summary["read"]["already_archived"] == 50
    held = {key: value[:3] for key, value in snapshot(events).items()}
    assert held == {key: value[:3] for key, value in by_queue(events).items()}


def test_the_log_says_what_an_item_holds(stage, files):
    run(files)
    stage.apply([_late_payment("cus_busy"), _late_payment("cus_1")])
    stage.archive_events([_late_payment("cus_busy"), _late_payment("cus_1")])
    stage.deliver()
    before = states()
    memory = ArchivedItems(before, DEFINITIONS)
    target = Stage("dev")
    memory.read(target.archive(EVENTS_PREFIX), target.archive(COMMITS_PREFIX))
    for view in DEFINITIONS.kept:
        for key in before:
            if key.startswith(f"{view.name}@{view.version}#"):
                rebuild(view, key, memory, target.store(view), FixedClock(NOW), RETENTION)
    for key, state in states().items():
        assert state.values(NOW) == before[key].values(NOW), key
    assert len(list(read_log(target.archive(COMMITS_PREFIX)))) > 15


def _late_payment(customer: str) -> Event:
    data = {"loan_id": "l1", "amount": 100, "currency": "EUR", "days_late": 2}
    return Event(f"live_{customer}", "payment.succeeded", NOW - MINUTE, {"customer": customer}, data)


class Killed(BaseException):
    """Exception that no `except` of the program catches."""


WRITES = ("PutItem", "TransactWriteItems", "PutObject", "UpdateItem", "DeleteObject")


def watched(monkeypatch, step: int | None) -> list[str]:
    """Record the writes; the process dies at number `step`, before or after it is done."""
    writes: list[str] = []
    call = botocore.client.BaseClient._make_api_call

    def counting(self, operation, *arguments, **options):
        if operation in WRITES:
            writes.append(operation)
            if len(writes) == step and step % 2:
                raise Killed
        answer = call(self, operation, *arguments, **options)
        if operation in WRITES and len(writes) == step:
            raise Killed
        return answer

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", counting)
    return writes


@pytest.mark.parametrize("every", [19, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_at_any_write_it_goes_on(files, every, monkeypatch):
    events = mapped_events(files)
    whole = by_queue(events)
    for step in count(2, every):
        with mock_aws(), pytest.MonkeyPatch.context() as patch:
            deployed()
            writes = watched(patch, step)
            with contextlib.suppress(Killed):
                called("events", "import", str(files), "--map", str(files / "map.toml"), "--threads", "1")
            patch.undo()
            monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
            state = Imports("registry").unfinished()
            if state is not None and state.state == ARCHIVED and step % 3 == 0:
                assert called("events", "import", "--resume").exit_code == 0
            else:
                run(files)
            assert archived_events(Stage("dev")) == events
            assert snapshot(events) == whole, f"killed at write {step}"
            assert Imports("registry").unfinished() is None
        if len(writes) < step:
            assert step > 20
            break


def test_while_an_import_is_unfinished_no_other_begins(stage, files):
    Imports("registry").begin("aaaaaaaaaaaa", NOW)
    done = called("events", "import", str(files), "--map", str(files / "map.toml"))
    assert done.exit_code == 1
    assert "import aaaaaaaaaaaa is unfinished" in done.stderr
    assert not items()
    assert called("events", "import", "--resume").exit_code == 1


def test_while_an_import_is_unfinished_nobody_is_erased(stage, files):
    run(files)
    begun = Imports("registry").begin("aaaaaaaaaaaa", NOW)
    erasing = ("features", "erase", "--entity", "customer:cus_1", "--yes")
    done = called(*erasing)
    assert done.exit_code == 1
    assert "import aaaaaaaaaaaa is unfinished" in done.stderr
    Imports("registry").move(begun, DONE)
    assert called(*erasing).exit_code == 0
    assert not [key for key, state in states().items() if key.endswith("#cus_1") and state.born is not None]


def test_imported_events_are_in_the_tables_and_in_the_index(stage, files):
    run(files)
    assert called("archive", "compact").exit_code == 0
    counted = called("sql", "SELECT type, count(*) FROM events GROUP BY type ORDER BY type", "--json")
    assert counted.exit_code == 0, counted.output
    assert json.loads(counted.stdout)["rows"] == [
        ["loan.originated", MANY + 8],
        ["payment.succeeded", MANY + 8],
    ]
    assert called("archive", "index").exit_code == 0
