"""`candor dataset build` on a copy of an archive: the simulated lender's, with its own declarations."""

from __future__ import annotations

import gzip
import json

import pyarrow.parquet as pq
import pytest

from candor.clock import format_rfc3339
from candor.contracts import HISTORY
from cli.dataset import build as command
from demo.sources.simulated import SimulatedLender
from lender import DEFINITIONS
from tests.cli.deployed import called

AS_OF = SimulatedLender(customers=1).as_of
SOME = ("--features", "customer_repayments", "--features", "customer_loans")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    (folder / "events").mkdir()
    with gzip.open(folder / "events" / "1.gz", "wt") as lines:
        for event in SimulatedLender(customers=120).history():
            envelope = {"time": format_rfc3339(AS_OF), "source": HISTORY, "detail": event}
            lines.write(json.dumps({"ingestion_time": format_rfc3339(AS_OF), "event": envelope}) + "\n")
    return folder


def build(archive, out, *words: str) -> dict:
    options = ("--archive", str(archive), "--out", str(out), "--as-of", format_rfc3339(AS_OF), "--json")
    result = called("dataset", "build", *options, *words)
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)
    assert manifest == json.loads((out / "manifest.json").read_text())
    return manifest


def test_a_data_set_of_some_views_with_another_label(archive, tmp_path):
    whole = build(archive, tmp_path / "whole")
    some = build(archive, tmp_path / "some", *SOME, "--labels", "first_payment_default")
    assert whole["rows"] > 100
    assert (some["label"], sorted(some["views"])) == (
        "first_payment_default",
        ["customer_loans", "customer_repayments"],
    )
    table = pq.read_table(tmp_path / "some" / "dataset.parquet")
    features = [name for name in table.column_names if "." in name]
    assert features == [
        name for name in DEFINITIONS.features if name.startswith(("customer_rep", "customer_loans"))
    ]
    assert 0 < some["bads"] < some["rows"]
    assert some["bads"] == sum(table["bad"].to_pylist())
    series = pq.read_table(tmp_path / "some" / "series.parquet")
    assert series.num_rows == some["series"]["rows"] > 100
    assert max(series["days_past_due"].to_pylist()) > 30


def test_the_same_again_has_the_same_snapshot(archive, tmp_path):
    first, other = (build(archive, tmp_path / name, *SOME) for name in "ab")
    assert first == other
    later = build(archive, tmp_path / "c", *SOME, "--labels", "dpd30")
    assert later["snapshot"] != first["snapshot"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--labels", "dpd45"), "there are final_due, first_payment_default, dpd30, dpd60, dpd90"),
        (("--features", "customer_loan"), "there are customer_checkouts"),
        (("--as-of", "2020-01-01T00:00:00Z"), "load the lender's history first"),
        (("--as-served",), "no decision on these declarations"),
    ],
)
def test_what_cannot_be_built_is_one_line(archive, tmp_path, words, said):
    options = ("--archive", str(archive), "--out", str(tmp_path / "out"), "--as-of", format_rfc3339(AS_OF))
    result = called("dataset", "build", *options, *words)
    assert result.exit_code == 1
    assert said in result.output
    assert not (tmp_path / "out").exists()


def test_without_its_environment_spark_says_what_to_do(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "SPARK", tmp_path / "nothing")
    options = ("--archive", str(archive), "--out", str(tmp_path / "out"), "--engine", "spark")
    result = called("dataset", "build", *options)
    assert result.exit_code == 1
    assert "make spark" in result.output
