"""`candor features as-of`: past features from the archive, independent of the online item."""

from __future__ import annotations

import json

import pytest
from moto import mock_aws

from candor.clock import DAY, HOUR, MINUTE, SystemClock, format_rfc3339
from candor.contracts import HISTORY, Event
from candor.store.erasures import Erasures
from lender import DEFINITIONS
from simulation import oracle
from tests.cli.deployed import REGION, Deployed, call

VIEW = next(view for view in DEFINITIONS.views if view.name == "customer_repayments")
NOW = SystemClock().now_ms() // 1_000 * 1_000
PAID = "payment.succeeded"


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield Deployed()


def payment(number: int, at: int, token: str = "cus_1", voided_at: int | None = None) -> Event:
    data = {"loan_id": "l1", "amount": 100 * number, "currency": "USD", "days_late": number}
    return Event(f"e{number}-{token}", PAID, at, {"customer": token}, data, voided_at)


def rows(*words: str) -> list[dict]:
    result = call("as-of", VIEW.name, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["rows"]


def values(row: dict) -> list[float | None]:
    return list(row["features"].values())


def wanted(events: list[Event], token: str, moment: int, knowledge: str = "at_moment") -> list[float | None]:
    numbers = oracle.expected(VIEW, events, token, moment, knowledge)
    return [None if value != value else value for value in numbers]  # noqa: PLR0124 - NaN is null in JSON


def test_moments_that_the_item_cannot_answer_any_more_are_answered_from_the_archive(stage):
    events = [payment(n, NOW - (50 - n) * DAY) for n in range(1, 50)]
    stage.archive_events(events, NOW, HISTORY)
    stage.apply(events)
    early = format_rfc3339(NOW - 40 * DAY)
    online = json.loads(call("show", VIEW.name, "cus_1", "--at", early, "--json").stdout)
    assert online["state"] == "unavailable"
    first, second = rows("cus_1", "--at", early, "--at", format_rfc3339(NOW - 3 * DAY))
    assert (first["at"], second["at"]) == (early, format_rfc3339(NOW - 3 * DAY))
    assert list(first["features"]) == [feature.name for feature in VIEW.features]
    assert values(first) == wanted(events, "cus_1", NOW - 40 * DAY)
    assert values(second) == wanted(events, "cus_1", NOW - 3 * DAY)


def test_a_live_correction_counts_from_its_arrival_and_ever_from_its_own_moment(stage):
    wrong, right = payment(1, NOW - DAY), payment(2, NOW - DAY)
    void = payment(1, NOW - DAY, voided_at=NOW - 20 * HOUR)
    stage.archive_events([wrong], NOW - DAY + 1_000)
    stage.archive_events([void, right], NOW - 20 * HOUR)
    query = ("cus_1", "--at", format_rfc3339(NOW - 22 * HOUR), "--at", format_rfc3339(NOW - 19 * HOUR))
    known = [values(row) for row in rows(*query)]
    ever = [values(row) for row in rows(*query, "--knowledge", "ever")]
    assert known[0] == wanted([wrong], "cus_1", NOW - 22 * HOUR)
    assert ever[0] == wanted([wrong, right], "cus_1", NOW - 22 * HOUR)
    assert known[1] == ever[1] == wanted([right], "cus_1", NOW - 19 * HOUR)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_file_asks_for_many(stage, tmp_path, form):
    events = [payment(n, NOW - n * DAY, token) for n in range(1, 9) for token in ("cus_1", "cus_2")]
    stage.archive_events(events, NOW, HISTORY)
    queries = [(token, NOW - n * DAY - MINUTE) for n in range(4) for token in ("cus_1", "cus_2", "nobody")]
    path = tmp_path / f"asked.{form}"
    lines = [{"token": token, "moment": format_rfc3339(moment)} for token, moment in queries]
    if form == "csv":
        path.write_text("moment,token\n" + "".join(f"{line['moment']},{line['token']}\n" for line in lines))
    else:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    answers = rows("--questions", str(path))
    assert [row["token"] for row in answers] == [token for token, _ in queries]
    assert [values(row) for row in answers] == [wanted(events, *query) for query in queries]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "token,moment\ncus_1,2026-01-01T00:00:00Z\nperson_7f3a,yesterday\n", 2),
        ("a.csv", "who,moment\nperson_7f3a,2026-01-01T00:00:00Z\n", 1),
        ("a.csv", "token,moment\nperson_7f3a\n", 1),
        ("a.jsonl", '{"token": "person_7f3a", "moment": 5}\n', 1),
        ("a.jsonl", '{"token": "", "moment": "2026-01-01T00:00:00Z"}\n', 1),
        ("a.jsonl", '["person_7f3a"]\n', 1),
        ("a.jsonl", "person_7f3a\n", 1),
    ],
)
def test_a_question_that_is_none_is_named_by_its_number_and_not_repeated(stage, tmp_path, name, text, line):
    (tmp_path / name).write_text(text)
    result = call("as-of", VIEW.name, "--questions", str(tmp_path / name))
    assert result.exit_code == 1
    assert f"{name}, question {line}: give a token and a moment" in result.stderr
    assert "person_7f3a" not in result.stderr


@pytest.mark.parametrize("words", [["cus_1"], ["--at", "24h"], ["cus_1", "--questions", __file__], []])
def test_either_an_entity_with_moments_or_a_file(stage, words):
    result = call("as-of", VIEW.name, *words)
    assert result.exit_code == 2
    assert "give either ENTITY and --at, or --questions" in result.stderr


def test_what_is_printed_names_nobody_who_was_not_in_a_file(stage):
    stage.archive_events([payment(3, NOW - DAY)], NOW, HISTORY)
    printed = call("as-of", VIEW.name, "cus_1", "--at", "1h", "--at", "48h").stdout
    assert "cus_1" not in printed
    assert f"{VIEW.name}@{VIEW.version}, knowledge: at-moment" in printed
    assert "missing" in printed


def test_an_erased_person_has_no_past(stage):
    stage.archive_events([payment(1, NOW - DAY)], NOW, HISTORY)
    at = ("cus_1", "--at", format_rfc3339(NOW - HOUR))
    before = rows(*at)
    Erasures("registry").begin("customer", "cus_1", NOW - MINUTE, "asked to be forgotten")
    assert before != rows(*at)
    assert values(rows(*at)[0]) == wanted([], "cus_1", NOW - HOUR)
