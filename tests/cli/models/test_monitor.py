"""`candor models monitor`: from a run's files and the archive to tables, JSON, metrics and an exit code."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

import lender
from candor.clock import DAY, SystemClock, format_rfc3339
from candor.contracts import Event
from candor.registry.artifacts import keep_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from tests.cli.deployed import REGION, Deployed, called
from tests.trained import train
from training.monitoring import job as monitor
from training.monitoring.metrics import SERVICE
from training.monitoring.signals import Signal

RUN = "monthly-1"
AMOUNT = "request.amount"
FEATURES = lender.DEFINITIONS.features
TOTALS = (4_000, 5_000, 6_000, 20_000)


@pytest.fixture(scope="module")
def stage():
    """A stage with a champion, its run's files, four decisions and the loan of one of them."""
    bundle = train(
        lender.DEFINITIONS, lender.policy(), lender.REASONS, {AMOUNT: 100_000.0}, monotone=lender.MONOTONE
    )
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        stage = Deployed()
        s3 = boto3.client("s3")
        keep_bundle(s3, "bundles", bundle.sha, bundle.to_bytes())
        Registry("registry").register(Registration(bundle.sha, "candidate", {}, RUN, 1))
        Registry("registry").promote(bundle.sha, by="ana", at=1)
        for name, data in files(bundle).items():
            s3.put_object(Bucket="training", Key=f"runs/{RUN}/{name}", Body=data)
        made = [stage.decide(f"k{total}", f"cus_{total}", total=total, bundle=bundle) for total in TOTALS]
        stage.decide("none", "cus_none")
        stage.deliver("decisions")
        stage.archive_events(loan(made[0].request.checkout_id))
        yield bundle


def files(bundle) -> dict[str, bytes]:
    """Files of the run: data set, manifest and packed model."""
    random = np.random.default_rng(1)
    columns = {name: random.integers(0, 3, 500).astype(float) for name in FEATURES}
    columns[AMOUNT] = random.integers(1_000, 60_000, 500).astype(float)
    dataset = io.BytesIO()
    pq.write_table(pa.table(columns | {"amount": columns[AMOUNT].astype(int)}), dataset)
    manifest = {
        "as_of": format_rfc3339(SystemClock().now_ms() - DAY),
        "definition_hash": bundle.definition_hash,
        "rows": 500,
        "bads": 50,
        "sha256": sha256(dataset.getvalue()).hexdigest(),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("bundle.json")
        member.size = len(bundle.to_bytes())
        tar.addfile(member, io.BytesIO(bundle.to_bytes()))
    return {
        "dataset/dataset.parquet": dataset.getvalue(),
        "dataset/manifest.json": json.dumps(manifest).encode(),
        "model/job/output/model.tar.gz": packed.getvalue(),
    }


def loan(checkout_id: str) -> list[Event]:
    """Events of a loan that was due ten days ago and is open; another one, of now, shows that the feed goes on."""
    now = SystemClock().now_ms()
    about = {"loan_id": "loan_1", "amount": 4_000, "currency": "USD"}
    due = {
        "final_due_at": now - 10 * DAY,
        "first_due_at": now - 10 * DAY,
        "finance_charge": 0,
        "installments": 1,
    }
    originated = {**about, **due, "checkout_id": checkout_id}
    later = {
        **originated,
        "loan_id": "loan_2",
        "checkout_id": "chk_2",
        "first_due_at": now,
        "final_due_at": now,
    }
    customer = {"customer": "cus_4000"}
    return [
        Event("e1", "loan.originated", now - 40 * DAY, customer, originated),
        Event("e2", "loan.originated", now - 1, customer, later),
    ]


def monitored(*words: str) -> dict:
    result = called("models", "monitor", *words, "--json")
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def test_the_champions_run_is_compared_with_what_was_decided(stage):
    report = monitored()
    assert (report["run"], report["bundle"], report["snapshot"]["rows"]) == (RUN, stage.sha, 500)
    population = report["population"]
    assert (population["decisions"], population["scored_by_itself"], population["scored_again"]) == (5, 4, 1)
    assert (population["loans"], population["mature"], population["immature"]) == (1, 1, 0)
    assert {feature["name"] for feature in report["features"]} == set(FEATURES)
    assert (report["calibration"]["n"], report["calibration"]["bads"], report["calibration"]["slope"]) == (
        1,
        1,
        None,
    )
    [vintage] = report["vintages"]
    assert (vintage["loans"], vintage["bads"]) == (1, 1)
    assert [
        (segment["value"], segment["n"]) for segment in report["segments"] if segment["by"] == "customer"
    ] == [("new", 5)]


def test_a_run_is_named_and_its_model_taken_from_what_its_job_left(stage):
    assert monitored("--run", RUN)["bundle"] == stage.sha


def test_what_cannot_be_compared_is_one_line(stage):
    for words, why in (
        (("--run", "other"), "run other left no model"),
        (("--since", "2099-01-01T00:00:00Z"), "no decision in this interval"),
    ):
        result = called("models", "monitor", *words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert why in result.stderr


def test_tables_name_no_person(stage, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "140")
    printed = called("models", "monitor").stdout
    for words in ("against the training snapshot", "vintages", "approvals", "customer new"):
        assert words in printed
    assert "cus_" not in printed
    assert "cus_" not in json.dumps(monitored())
    called("models", "monitor", "--html", str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "customer: new" in text
    assert "cus_" not in text


def test_what_is_watched_is_published_and_past_its_limit_the_command_fails(stage):
    result = called("models", "monitor", "--publish")
    assert result.exit_code == 0  # one label and five decisions say nothing
    published = set()
    for metric in boto3.client("cloudwatch").list_metrics(Namespace="Candor")["Metrics"]:
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
        assert (dimensions.pop("service"), dimensions.pop("stage")) == (SERVICE, "dev")
        published.add((metric["MetricName"], *dimensions.values()))
    assert {("DecisionsMonitored",), ("ScorePSI",), ("BadRateRatio",), ("BadRateOff",)} < published
    assert {("FeaturePSI", name) for name in FEATURES} < published
    assert {("FeatureMissing", name) for name in FEATURES} < published


def test_drift_is_a_result_with_an_exit_code_of_its_own(stage, monkeypatch):
    monkeypatch.setattr(
        "training.monitoring.signals.signals",
        lambda _report: iter(
            [Signal("ScoreDrift", 0.31, "PSI of the score"), Signal("FeatureDrift", 0.1, "no feature")]
        ),
    )
    for words in ((), ("--json",)):
        result = called("models", "monitor", *words)
        assert result.exit_code == 3
        assert result.stderr.startswith("Drift found: ScoreDrift 0.310, limit 0.25 (PSI of the score)\n")
        assert "Error" not in result.stderr
        assert "ScoreDrift" in result.stdout, "the report is complete"


def test_the_scheduled_job_writes_page_json_and_metrics_of_the_champion(stage, monkeypatch, tmp_path, capsys):
    places = {"REGISTRY_TABLE": "registry", "STAGE": "dev", "PROCESSING_ROOT": str(tmp_path)}
    for name in ("BUNDLES", "TRAINING", "ARCHIVE"):
        places[f"{name}_BUCKET"] = name.lower()
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    assert monitor.main() == 0
    out = tmp_path / "output/monitoring"
    assert json.loads((out / "report.json").read_text())["bundle"] == stage.sha
    assert "Monitoring of run monthly-1" in (out / "report.html").read_text("utf-8")
    assert "BadRateOff=" in capsys.readouterr().out
    monkeypatch.setenv("TRAINING_BUCKET", "bundles")
    assert monitor.main() == 1
    assert "has expired" in capsys.readouterr().err
