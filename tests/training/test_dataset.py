"""Labels as they were known at the time, in a data set with a manifest of its inputs."""

from __future__ import annotations

import hashlib
import json
import math

import pyarrow.parquet as pq
import pytest

from candor.clock import DAY, format_rfc3339
from candor.contracts import HISTORY, parse_event
from candor.errors import DefinitionError
from candor.features.definitions import Definitions
from tests.training.conftest import (
    AS_OF,
    CUSTOMER,
    LOADED,
    T0,
    checkout_body,
    event,
    feed_until,
    loan,
    small_lender,
    write_archive,
    write_lines,
)
from training.dataset import job as dataset
from training.dataset.build import NothingToLearn
from training.dataset.job import build
from training.dataset.labels import label_of, labelled_checkouts, observed_until

DUE = 30 * DAY
GRACE = 3 * DAY
LABEL = label_of(small_lender())


def labels(events: list[dict], as_of: int = AS_OF) -> dict[str, tuple[bool, int]]:
    history = [parse_event(json.dumps(body).encode(), HISTORY) for body in [*events, feed_until(as_of)]]
    rows, _ = labelled_checkouts(small_lender(), history, as_of)
    return {row.question.row_id: (row.bad, row.known_at) for row in rows}


@pytest.mark.parametrize(("days_late", "bad"), [(-5, False), (3, False), (4, True), (None, True)])
def test_bad_is_not_closed_by_due_plus_grace_and_good_and_bad_mature_then(days_late, bad):
    assert labels(loan("1", "a", T0, days_late=days_late)) == {"chk_1": (bad, T0 + DUE + GRACE)}


def test_a_late_closing_does_not_move_the_moment_at_which_bad_was_known():
    events = loan("1", "a", T0, days_late=60)
    assert labels(events, T0 + DUE + GRACE + 1) == {"chk_1": (True, T0 + DUE + GRACE)}


@pytest.mark.parametrize("days_late", [-5, None])
def test_a_label_that_matures_at_the_moment_itself_is_not_used(days_late):
    events = loan("1", "a", T0, days_late=days_late)
    assert labels(events, T0 + DUE + GRACE) == {}
    assert len(labels(events, T0 + DUE + GRACE + 1)) == 1


def test_a_checkout_without_a_loan_or_a_due_date_has_no_label():
    events = loan("1", "a", T0, days_late=None)
    assert labels(events[:1]) == {}
    del events[1]["data"]["first_due_at"]
    assert labels(events) == {}


def test_of_two_closings_the_earlier_decides_whatever_arrives_first():
    events = loan("1", "a", T0, days_late=9)
    early = event("early", "loan.closed", T0 + DUE, "a", loan_id="loan_1", days_late=0)
    assert labels([*events, early]) == labels([early, *events]) == {"chk_1": (False, T0 + DUE + GRACE)}


def test_a_closing_decides_from_when_it_was_known():
    events = loan("1", "a", T0, days_late=0)
    events[-1] |= {"known_at": format_rfc3339(T0 + DUE + 9 * DAY)}
    assert labels(events, T0 + DUE + 9 * DAY) == {"chk_1": (True, T0 + DUE + GRACE)}
    assert labels(events, T0 + DUE + 9 * DAY + 1) == {"chk_1": (False, T0 + DUE + GRACE)}


def test_a_loan_that_nobody_knew_of_has_no_label():
    events = loan("1", "a", T0, days_late=0)
    events[1] |= {"known_at": format_rfc3339(AS_OF)}
    assert labels(events, AS_OF) == {}
    again = {name: value for name, value in events[1].items() if name != "known_at"}
    assert labels([*events, again], AS_OF) == {}, "the copy that arrived first says when it was known"
    assert len(labels(events, AS_OF + 1)) == 1


def test_where_the_feed_stopped_an_open_loan_is_neither_good_nor_bad():
    ended = loan("1", "a", T0, days_late=0)
    still_open = loan("2", "b", T0 + 60 * DAY, days_late=None)
    body = [parse_event(json.dumps(body).encode(), HISTORY) for body in [*ended, *still_open]]
    rows, _ = labelled_checkouts(small_lender(), body, AS_OF)
    assert [row.question.row_id for row in rows] == ["chk_1"]
    assert observed_until(LABEL, body, AS_OF) == T0 + 60 * DAY + 1
    checkouts_alone = parse_event(json.dumps(loan("3", "c", AS_OF - 1, days_late=None)[0]).encode(), HISTORY)
    assert observed_until(LABEL, [*body, checkouts_alone], AS_OF) == T0 + 60 * DAY + 1
    assert len(labels([*ended, *still_open])) == 2


def test_definitions_without_a_label_cannot_train():
    bare = Definitions(entities=[CUSTOMER], events=[], views=[])
    with pytest.raises(DefinitionError, match="declare Label"):
        labelled_checkouts(bare, [], AS_OF)


def test_a_body_that_is_no_checkout_is_counted_not_trained_on():
    events = loan("1", "a", T0, days_late=0)
    events[0]["data"]["checkout"] = checkout_body("1", "a", 5_000) | {"total": 1}
    rows, unreadable = labelled_checkouts(
        small_lender(),
        [parse_event(json.dumps(body).encode()) for body in [*events, feed_until(AS_OF)]],
        AS_OF,
    )
    assert (rows, unreadable) == ([], 1)


def test_the_data_set_holds_each_checkout_once_with_its_past(tmp_path):
    events = [*loan("1", "a", T0, days_late=5), *loan("2", "a", T0 + 60 * DAY, days_late=0, total=7_000)]
    write_archive(tmp_path / "in", [*events, *events, feed_until(AS_OF)])
    manifest = build(small_lender(), tmp_path / "in", tmp_path / "out", as_of=AS_OF, run="r1")
    rows = pq.read_table(tmp_path / "out" / "dataset.parquet").to_pylist()
    assert [row["row_id"] for row in rows] == ["chk_1", "chk_2"]
    assert [row["bad"] for row in rows] == [1, 0]
    second = rows[1]
    assert second["loans.count.lifetime"] == 1.0
    assert second["loans.max_days_late.90d"] == 5.0
    assert second["tries.count.7d"] == 0.0
    assert second["request.amount"] == 7_000.0
    assert second["finance_charge"] == 700
    assert math.isnan(rows[0]["loans.max_days_late.90d"])
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (
        manifest["sha256"] == hashlib.sha256((tmp_path / "out" / "dataset.parquet").read_bytes()).hexdigest()
    )
    assert (manifest["rows"], manifest["bads"], manifest["events"]) == (2, 1, 13)


def test_a_row_knows_what_was_known_at_its_moment(tmp_path):
    first, second = (loan(number, "a", T0 + at * DAY, days_late=1) for number, at in (("1", 0), ("2", 60)))
    first[-1] |= {"known_at": format_rfc3339(T0 + 60 * DAY)}
    third = loan("3", "a", T0 + 61 * DAY, days_late=None)
    write_archive(tmp_path / "in", [*first, *second, *third, feed_until(AS_OF)])
    manifest = build(small_lender(), tmp_path / "in", tmp_path / "out", as_of=AS_OF, run="r1")
    rows = pq.read_table(tmp_path / "out" / "dataset.parquet").to_pylist()
    late = [row["loans.max_days_late.90d"] for row in rows]
    assert (math.isnan(late[0]), math.isnan(late[1]), late[2]) == (True, True, 1.0)
    assert manifest["events"] == 9


def test_what_became_known_after_as_of_is_not_counted(tmp_path):
    events = loan("1", "a", T0, days_late=0)
    events[-1] |= {"known_at": format_rfc3339(AS_OF)}
    write_archive(tmp_path / "in", [*events, feed_until(AS_OF)])
    manifest = build(small_lender(), tmp_path / "in", tmp_path / "out", as_of=AS_OF, run="r1")
    assert (manifest["events"], manifest["bads"]) == (3, 1)


@pytest.mark.parametrize(("arrived", "counted"), [(1, 1.0), (3, 0.0)])
def test_events_that_were_recorded_live_count_from_their_arrival(tmp_path, arrived, counted):
    first, second = (loan(number, "a", T0 + at * DAY, days_late=None) for number, at in (("1", 0), ("2", 2)))
    lines = [
        {
            "ingestion_time": format_rfc3339(at),
            "event": {"time": LOADED, "source": "candor.lender", "detail": body},
        }
        for at, events in (
            (T0 + arrived * DAY, first),
            (T0 + 2 * DAY, second),
            (AS_OF - 1, [feed_until(AS_OF)]),
        )
        for body in events
    ]
    write_lines(tmp_path / "in/2026/11/23/21/part-1.gz", lines)
    build(small_lender(), tmp_path / "in", tmp_path / "out", as_of=AS_OF, run="r1")
    rows = pq.read_table(tmp_path / "out" / "dataset.parquet").to_pylist()
    assert [row["tries.count.7d"] for row in rows] == [0.0, counted]


def test_nothing_after_as_of_is_used(tmp_path):
    events = [*loan("1", "a", T0, days_late=0), *loan("2", "a", AS_OF - DAY, days_late=-29)]
    write_archive(tmp_path / "in", events)
    assert build(small_lender(), tmp_path / "in", tmp_path / "out", as_of=AS_OF, run="r1")["rows"] == 1


def test_the_same_archive_gives_the_same_bytes(tmp_path, history):
    write_archive(tmp_path / "in", history[:600])
    first, second = (
        build(small_lender(), tmp_path / "in", tmp_path / out, as_of=AS_OF, run="r1")["sha256"]
        for out in ("a", "b")
    )
    assert first == second


def test_an_archive_without_ends_says_so(tmp_path):
    with pytest.raises(NothingToLearn, match="load the lender's history first"):
        build(small_lender(), tmp_path, tmp_path / "out", as_of=AS_OF, run="r1")


def test_the_container_entry_follows_the_processing_contract(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROCESSING_ROOT", str(tmp_path))
    monkeypatch.setattr("lender.DEFINITIONS", small_lender())
    arguments = ["--as-of", format_rfc3339(AS_OF), "--run", "r1"]
    assert dataset.main(arguments) == 1
    assert capsys.readouterr().err.startswith("error: no checkout has a known end before")
    write_archive(tmp_path / "input/archive", [*loan("1", "a", T0, days_late=0), feed_until(AS_OF)])
    assert dataset.main(arguments) == 0
    assert (tmp_path / "output/dataset/manifest.json").is_file()
    with pytest.raises(SystemExit):
        dataset.main(["--as-of", "yesterday"])
