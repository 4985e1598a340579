"""`candor archive compact` and `candor sql`, on a folder and on a stage's bucket."""

from __future__ import annotations

import gzip
import json

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from history.archive.tables import TABLES
from tests.cli.deployed import Deployed, called

EVENTS = TABLES[0]


def lines(*numbers: int) -> bytes:
    detail = {"type": "payment.due", "occurred_at": "2026-11-24T08:00:00Z", "entities": {"customer": "ann"}}
    made = [
        {"time": "2026-11-24T08:00:01Z", "detail": detail | {"event_id": f"evt_{n}", "data": {"amount": n}}}
        for n in numbers
    ]
    return gzip.compress("".join(json.dumps(line) + "\n" for line in made).encode())


@pytest.fixture
def folder(tmp_path):
    for day, body in (("24", lines(1, 2)), ("25", lines(3))):
        path = tmp_path / f"events/2026/11/{day}/08/part.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
    return tmp_path


def output(command: str, *words: str) -> dict:
    result = called(*command.split(), *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_days_become_tables_and_answer(folder):
    where = ("--archive", str(folder))
    done = output("archive compact", *where)["tables"]
    assert done[0] == {"table": "events", "written": 2, "kept": 0, "removed": 0, "rows": 3}
    assert output("archive compact", *where)["tables"][0]["kept"] == 2
    query = "SELECT day, sum((data->>'amount')::int) AS total FROM events GROUP BY day ORDER BY day"
    result = output("sql", query, *where)
    assert result == {"columns": ["day", "total"], "rows": [["2026-11-24", 3], ["2026-11-25", 3]]}
    whole = output("sql", "SELECT * FROM events ORDER BY event_id", *where)
    assert whole["columns"] == [*EVENTS.schema.names, "day"]
    assert whole["rows"][0][2] == "2026-11-24T08:00:00"
    assert called("sql", "SELECT type FROM events", *where).stdout.count("payment.due") == 3


def test_a_table_without_a_file_is_empty_and_a_column_that_a_file_lacks_is_null(folder):
    where = ("--archive", str(folder))
    assert output("sql", "SELECT count(*) AS n FROM decisions", *where)["rows"] == [[0]]
    output("archive compact", *where)
    path = folder / EVENTS.key("2026-11-24")
    pq.write_table(pa.table({"event_id": ["evt_old"]}), path)
    result = output("sql", "SELECT event_id, type, day FROM events ORDER BY day LIMIT 1", *where)
    assert result["rows"] == [["evt_old", None, "2026-11-24"]]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DROP VIEW events", "give one SELECT"),
        ("SELECT 1; SELECT 2", "give one SELECT"),
        ("COPY (SELECT 1) TO 'x'", "give one SELECT"),
        ("CREATE TABLE t AS SELECT 1", "give one SELECT"),
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM events", "nothing"),
    ],
)
def test_what_is_no_question_is_refused(folder, query, said):
    result = called("sql", query, "--archive", str(folder))
    assert result.exit_code == 1
    assert said in result.output


def test_no_more_rows_than_were_asked_for(folder):
    result = called("sql", "SELECT * FROM range(5)", "--archive", str(folder), "--rows", "2", "--json")
    assert len(json.loads(result.stdout)["rows"]) == 2
    assert "there are more than 2 rows" in result.stderr


def test_a_stages_own_archive():
    with mock_aws():
        Deployed()
        boto3.client("s3").put_object(Bucket="archive", Key="events/2026/11/24/08/part.gz", Body=lines(1, 2))
        assert output("archive compact")["tables"][0]["rows"] == 2
        assert output("sql", "SELECT count(*) AS n FROM events")["rows"] == [[2]]
