"""The reasons report on made-up rows; on the real ones: `python -m benchmarks.reasons_report --data FOLDER`."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reasons_report.__main__ import main
from benchmarks.reasons_report.datasets import DATASETS, TAIWAN, taiwan
from benchmarks.reasons_report.report import report, stability
from candor.reasons import Catalogue, unspecific_reasons

PROTECTED = {
    "sex", "marriage", "education", "age", "male", "female", "black", "asian", "white", "amind", "hipac", "hispanic",
    "non_hispanic", "agegte62", "agelt62",
}  # fmt: skip


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_every_feature_has_one_factor_and_none_is_a_protected_group(dataset):
    Catalogue(dataset.reasons, dataset.features)
    assert list(unspecific_reasons(dataset.reasons)) == []
    assert not PROTECTED & {name.lower() for name in dataset.features}
    assert set(dataset.monotone) <= set(dataset.features)


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.reasons_report.report.TREES", 40)
    monkeypatch.setattr("benchmarks.reasons_report.report.NEAR", 200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Taiwan's columns, with rows whose risk rises with late payments."""
    rng = np.random.default_rng(1)
    path = tmp_path / TAIWAN
    path.parent.mkdir()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*taiwan.features, taiwan.label])
        for values in rng.normal(size=(3_000, len(taiwan.features))).tolist():
            late = values[taiwan.features.index("PAY_0")]
            writer.writerow([*values, int(late + rng.normal() > 1)])
    return tmp_path


def test_a_report_tells_what_drives_the_risk_and_adds_up(folder):
    figures = report(taiwan, folder, retrains=2, applicants=300)
    assert figures["without_reason"] == 0
    assert 1 <= figures["reasons_per_decline"] <= 4
    assert max(figures["top_1"], key=figures["top_1"].get) == "T1"
    assert sum(figures["top_1"].values()) == pytest.approx(1)
    assert figures["additivity"] < 1e-9
    assert 0 < figures["stability"]["reasons"] <= 1


def test_stability_is_of_those_whom_both_decline():
    figures = stability([{1: ["A", "B"], 2: ["A"]}, {1: ["B", "A"], 3: ["A"]}])
    assert figures == {"declined": 1 / 3, "reasons": 1.0, "same_first": 0.0, "same_set": 1.0}


def test_what_is_not_there_is_passed_over_and_said(folder, capsys, tmp_path):
    assert main(["--data", str(folder), "--retrains", "2", "--applicants", "100", "--json"]) == 0
    printed = capsys.readouterr()
    assert [figures["dataset"] for figures in json.loads(printed.out)] == ["taiwan"]
    assert "hmda" in printed.err
    assert "passed over" in printed.err
    assert main(["--data", str(tmp_path / "nowhere")]) == 1


def test_real_rows():
    """With CANDOR_DATA=<folder of the data sets>."""
    data = os.environ.get("CANDOR_DATA")
    if data is None:
        pytest.skip("set CANDOR_DATA to the folder that holds taiwan/ and hmda/")
    for dataset in DATASETS:
        figures = report(dataset, Path(data), retrains=2, applicants=500)
        assert figures["without_reason"] == 0
        assert figures["additivity"] < 1e-9
