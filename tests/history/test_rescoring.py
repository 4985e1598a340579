"""Rescoring of past decisions, one Parquet row each: the same candidate changes nothing, another decides anew."""

from __future__ import annotations

import gzip
import json

import boto3
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

import lender
from candor.policy import Policy
from candor.registry.artifacts import keep_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from candor.underwriting import LoadedBundle
from cli.decisions.rescore import days_of
from history.replay.as_decided import reassess
from history.rescore.rescoring import PART, SCHEMA, RescoringCandidate, counted, made_between, main, rescore
from tests.cli.deployed import REGION, Deployed, called
from tests.trained import train

TOTALS = (1_000, 3_000, 20_000, 60_000, 90_000, 150_000)


@pytest.fixture(scope="module")
def made():
    """A stage with six decisions by one bundle and one without a bundle, archived; and the bundle."""
    bundle = train(
        lender.DEFINITIONS,
        lender.policy(),
        lender.REASONS,
        {"request.amount": 100_000.0},
        monotone=lender.MONOTONE,
    )
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        stage = Deployed()
        keep_bundle(boto3.client("s3"), "bundles", bundle.sha, bundle.to_bytes())
        Registry("registry").register(Registration(bundle.sha, "candidate", {}, "run", 1))
        decisions = [
            stage.decide(f"k{total}", f"cus_{total}", total=total, bundle=bundle) for total in TOTALS
        ]
        decisions.append(stage.decide("none", "cus_none"))
        stage.deliver("decisions")
        yield bundle, decisions


def stricter(most: int = 50_000) -> dict:
    """Return the lender's policy with a lower limit."""
    table = lender.policy()
    [rows] = [node["content"]["rules"] for node in table["nodes"] if node["type"] == "decisionTableNode"]
    next(row for row in rows if row["_id"] == "amount_limit_usd")["amount"] = f"> {most}"
    return table


def test_the_same_candidate_decides_the_same(made, tmp_path):
    bundle, decisions = made
    result = rescore(
        decisions, RescoringCandidate.of(bundle.to_bytes(), None), tmp_path / PART, rows_at_once=4
    )
    rows = pq.read_table(tmp_path / PART).to_pylist()
    assert result.rows == len(rows) == len(TOTALS) + 1
    for row, decision in zip(rows[:-1], decisions, strict=False):
        assert row["decision_id"] == decision.id
        assert (row["outcome"], row["score"], row["reasons"]) == (
            decision.outcome, decision.score, decision.reasons,
        )  # fmt: skip
        assert row["granted"] == row["granted_was"]
    assert (rows[-1]["bundle_was"], rows[-1]["score_was"]) == (None, None)
    assert rows[-1]["score"] is not None, "what nothing scored then is scored now"
    assert counted([tmp_path / PART]) == result


def test_another_table_decides_as_a_judge_with_it_does(made, tmp_path):
    bundle, decisions = made
    # Another lender's model approves other amounts: the limit is just below the largest of them.
    most = max(decision.request.total for decision in decisions if decision.outcome == "approved") - 1
    result = rescore(decisions, RescoringCandidate.of(bundle.to_bytes(), stricter(most)), tmp_path / PART)
    judge, table = LoadedBundle(bundle.sha, bundle), Policy(stricter(most))
    expected = [reassess(decision, judge, table, bundle.features).outcome for decision in decisions]
    rows = pq.read_table(tmp_path / PART).to_pylist()
    assert [row["outcome"] for row in rows] == expected
    assert [row["outcome_was"] for row in rows] == [decision.outcome for decision in decisions]
    assert any(row["outcome"] != row["outcome_was"] for row in rows)
    assert sum(result.swaps.values()) == len(rows)
    metadata = pq.read_schema(tmp_path / PART).metadata
    assert metadata[b"policy"].decode() == table.hash
    assert metadata[b"bundle"].decode() == bundle.sha


def test_other_features_are_left_out_and_told(made, tmp_path):
    bundle, decisions = made
    from msgspec.structs import replace

    other = replace(bundle, definition_hash="0" * 64)
    result = rescore(decisions, RescoringCandidate.of(other.to_bytes(), None), tmp_path / PART)
    assert result.as_json() == {
        "rows": 7,
        "swaps": {},
        "left_out": {"its features are not those of the candidate": 7},
    }


def test_no_column_names_a_person(made, tmp_path):
    bundle, decisions = made
    rescore(decisions, RescoringCandidate.of(bundle.to_bytes(), None), tmp_path / PART)
    assert set(pq.read_schema(tmp_path / PART).names) == set(SCHEMA.names)
    text = json.dumps(pq.read_table(tmp_path / PART).to_pylist())
    assert not [total for total in TOTALS if f"cus_{total}" in text]


def test_a_file_that_was_cut_short_does_not_stand_under_its_name(made, tmp_path):
    bundle, decisions = made

    def some():
        yield decisions[0]
        raise OSError("the archive is away")

    with pytest.raises(OSError, match="away"):
        rescore(some(), RescoringCandidate.of(bundle.to_bytes(), None), tmp_path / PART, rows_at_once=1)
    assert not (tmp_path / PART).exists()


def test_the_job_reads_and_writes_where_its_contract_says(made, tmp_path, monkeypatch, capsys):
    bundle, decisions = made
    order, archive = tmp_path / "input/order", tmp_path / "input/decisions"
    for folder in (order, archive):
        folder.mkdir(parents=True)
    (order / "bundle.json").write_bytes(bundle.to_bytes())
    (order / "policy.json").write_text(json.dumps(stricter()))
    s3 = boto3.client("s3")
    [archived] = s3.list_objects_v2(Bucket="archive", Prefix="decisions/")["Contents"]
    (archive / "one.gz").write_bytes(s3.get_object(Bucket="archive", Key=archived["Key"])["Body"].read())
    monkeypatch.setenv("PROCESSING_ROOT", str(tmp_path))
    assert main(["--since=0"]) == 0
    assert pq.read_metadata(tmp_path / "output/rescored" / PART).num_rows == len(decisions)
    assert "rescored: " in capsys.readouterr().out
    (archive / "two.gz").write_bytes(gzip.compress(b"{}"))
    assert main([]) == 1
    assert "error: two.gz, line 1" in capsys.readouterr().err


def test_an_interval_is_half_open(made):
    _, decisions = made
    first = decisions[0].decided_at
    assert list(made_between(decisions, first, None)) == decisions
    assert list(made_between(decisions, None, first)) == []


# The command


def rescored(*words: str) -> dict:
    result = called("decisions", "rescore", *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_here_is_the_same_as_the_worker(made, tmp_path):
    bundle, decisions = made
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(stricter()))
    report = rescored(
        "--bundle", bundle.sha[:8], "--policy", str(file), "--here", "--name", "x", "--out", str(tmp_path)
    )
    alone = rescore(
        decisions, RescoringCandidate.of(bundle.to_bytes(), stricter()), tmp_path / "alone" / PART
    )
    assert (report["rows"], report["swaps"]) == (alone.rows, alone.as_json()["swaps"])
    assert pq.read_table(tmp_path / "x" / PART).equals(pq.read_table(tmp_path / "alone" / PART))
    last = rescored("--bundle", bundle.sha, "--here", "--last", "2", "--out", str(tmp_path))
    assert last["rows"] == 2


def test_days_that_are_done_are_fetched_and_not_done_again(made, tmp_path):
    """There is no state machine here, so starting a job would fail."""
    bundle, decisions = made
    path = tmp_path / PART
    alone = rescore(decisions, RescoringCandidate.of(bundle.to_bytes(), None), path)
    key = f"rescored/again/day=2026-11-24/{PART}"
    boto3.client("s3").put_object(Bucket="training", Key=key, Body=path.read_bytes())
    report = rescored("--bundle", bundle.sha, "--name", "again", "--out", str(tmp_path))
    assert (report["rows"], report["swaps"]) == (alone.rows, alone.as_json()["swaps"])
    assert (tmp_path / "again" / "day=2026-11-24" / PART).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--name", "two--hyphens"), 2, "use up to 30 letters"),
        (("--last", "3"), 2, "--last needs --here"),
        (("--since", "2100-01-01T00:00:00Z"), 1, "widen --since"),
    ],
)
def test_what_cannot_be_is_told(made, words, code, why):
    bundle, _ = made
    result = called("decisions", "rescore", "--bundle", bundle.sha, *words)
    assert (result.exit_code, why in result.stderr) == (code, True)


def test_days_are_those_of_the_archive_that_may_hold_the_interval():
    keys = [f"decisions/2026/11/{day}/08/x.gz" for day in (23, 24, 24, 25, 26)] + ["decisions/odd.gz"]
    day = 86_400_000
    at = 20_781 * day  # 2026-11-24
    assert days_of(keys, None, None) == ["2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26"]
    assert days_of(keys, at, None) == ["2026-11-24", "2026-11-25", "2026-11-26"]
    assert days_of(keys, at, at + 1) == ["2026-11-24", "2026-11-25"]
