"""The evaluation job from end to end on a small lender: every key, honest models, the same bytes twice, one page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from candor import ModelCard
from candor.clock import DAY, format_rfc3339
from candor.errors import DefinitionError
from tests.training.conftest import AS_OF, small_lender
from tests.training.evaluated import CARD, evaluated, packed, population, trained, write_dataset
from training.evaluate import job as assess
from training.evaluate.importance import importance
from training.evaluate.job_output import JobOutput
from training.fit.recipe import gains, model_text, raw_scores
from training.metrics.scores import auc
from training.report.page import page

KEYS = """format bundle champion run discrimination comparison calibration gains importance stability profit swap_set vintages reasons
reject_inference fairness leakage latency parity""".split()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("assessed"))


def values(data):
    return np.column_stack([data[name] for name in small_lender().features])


def test_every_key_of_the_format_is_there(done):
    evaluation = json.loads((done.root / "output/evaluation/evaluation.json").read_text())
    assert evaluation == json.loads(json.dumps(done.evaluation))
    assert sorted(evaluation) == sorted(KEYS)
    assert (evaluation["format"], evaluation["bundle"], evaluation["champion"]) == (1, done.bundle.sha, None)
    for empty in ("comparison", "swap_set", "reject_inference", "fairness"):
        assert evaluation[empty] is None
    assert evaluation["parity"] == {"rows": evaluation["discrimination"]["n"], "mismatches": 0}
    assert not evaluation["leakage"]["suspected"], evaluation["leakage"]


def test_what_is_measured_is_of_models_that_have_not_seen_the_latest_part(done):
    figures = done.evaluation["discrimination"]
    assert figures["auc"] == pytest.approx(done.bundle.metrics["auc_served"])
    output = JobOutput.read((done.root / "input/model/model.tar.gz").read_bytes())
    data = population()
    late = data["q"] >= done.bundle.metrics["period_from"]
    seen = auc(data["bad"][late], raw_scores(done.bundle.model, values(data)[late]))
    unseen = auc(data["bad"][late], raw_scores(output.validation[1], values(data)[late]))
    assert figures["auc"] == pytest.approx(unseen)
    assert seen > unseen + 0.01
    assert figures["auc_low"] < figures["auc"] < figures["auc_high"]
    assert {segment["by"] for segment in figures["segments"]} == {"history", "amount", "month"}


def test_the_rest_of_the_measures_is_of_this_population(done):
    evaluation = done.evaluation
    assert evaluation["calibration"]["slope"] == pytest.approx(1.0, abs=0.6)
    assert set(evaluation["calibration"]["in_time"]) == {"slope", "intercept", "ece"}
    assert sum(decile["n"] for decile in evaluation["gains"]) == evaluation["discrimination"]["n"]
    assert evaluation["stability"]["psi"] < 0.25
    assert set(evaluation["stability"]["csi"]) == set(small_lender().features)
    assert sum(vintage["n"] for vintage in evaluation["vintages"]) == 900
    assert set(evaluation["reasons"]["frequency"]) <= {"R1", "R2"}
    assert sum(evaluation["reasons"]["top1"].values()) == pytest.approx(1.0)
    assert 0.5 < evaluation["reasons"]["stability"] <= 1.0


def test_the_importance_of_features_is_of_the_model_that_serves(done):
    table = done.evaluation["importance"]
    assert {row["feature"] for row in table} == set(small_lender().features)
    assert [row["contribution"] for row in table] == sorted(
        (row["contribution"] for row in table), reverse=True
    )
    assert sum(row["gain"] for row in table) == pytest.approx(1.0)
    data = population()
    late = np.flatnonzero(data["q"] >= done.bundle.metrics["period_from"])
    with done.bundle.load() as engine:
        parts = [engine.contributions(row)[:-1] for row in values(data)[late].tolist()]
    expected = dict(zip(small_lender().features, np.abs(parts).mean(axis=0).tolist(), strict=True))
    assert {row["feature"]: row["contribution"] for row in table} == pytest.approx(expected)
    assert table[0]["feature"] == "loans.max_days_late.lifetime", "lateness drives this population's risk"
    older = structs.replace(done.bundle, lineage=dict(done.bundle.lineage) | {"importance": None})
    assert {row["gain"] for row in importance(older, values(data)[late], small_lender().features)} == {None}


def test_gains_are_those_of_lightgbm():
    random = np.random.default_rng(1)
    rows = random.random((400, 3))
    target = (rows[:, 0] + 0.3 * rows[:, 2] > 0.7).astype(int)
    data = lightgbm.Dataset(rows, target, feature_name=["first", "unused", "third"])
    model = lightgbm.train({"objective": "binary", "num_leaves": 4, "verbosity": -1}, data, 5)
    expected = dict(
        zip(model.feature_name(), model.feature_importance("gain").astype(int).tolist(), strict=True)
    )
    assert gains(model_text(model)) == {name: gain for name, gain in expected.items() if gain}


def test_months_have_counts_and_intervals(done):
    data = population()
    months = np.array([format_rfc3339(int(q))[:7] for q in data["q"]])
    for vintage in done.evaluation["vintages"]:
        chosen = months == vintage["month"]
        assert (vintage["n"], vintage["bads"]) == (chosen.sum(), data["bad"][chosen].sum())
        assert vintage["low"] < vintage["bad_rate"] < vintage["high"]
        assert f"{vintage['bads']:,} of {vintage['n']:,}" in done.report


def test_a_month_is_mature_once_its_last_loan_had_time_to_end(done):
    ages = {vintage["month"]: vintage["mature"] for vintage in done.evaluation["vintages"]}
    latest = format_rfc3339(AS_OF - 33 * DAY)[:7]
    assert [mature for month, mature in sorted(ages.items()) if month < latest] == [True] * sum(
        month < latest for month in ages
    )


def test_the_same_inputs_give_the_same_bytes_but_for_the_latency(done, tmp_path):
    again = evaluated(tmp_path)
    strip = {"latency": None}
    assert {**again.evaluation, **strip} == {**done.evaluation, **strip}
    latency = re.compile(r"One score takes.*?µs\)")
    assert latency.sub("", again.report) == latency.sub("", done.report)
    assert again.bundle.sha == done.bundle.sha


class Page(HTMLParser):
    """Resources that a page would load, its links and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.drawn = 0

    def handle_starttag(self, tag, attributes):
        by_name = dict(attributes)
        self.drawn += tag == "svg"
        self.ids.add(by_name.get("id", ""))
        if tag in ("script", "link", "img", "iframe"):
            self.loads.append(tag)
        for name in ("href", "src", "xlink:href"):
            if by_name.get(name):
                (self.links.add if by_name[name].startswith("#") else self.loads.append)(by_name[name])


def test_the_report_is_one_page_that_needs_nothing(done):
    seen = Page()
    seen.feed(done.report)
    assert seen.loads == []
    assert {link[1:] for link in seen.links} <= seen.ids
    assert seen.drawn == 8
    assert "url(http" not in done.report
    assert CARD.purpose in done.report
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", done.report, flags=re.DOTALL).lower().split()


def test_what_the_data_set_says_is_escaped(tmp_path):
    columns = population() | {"merchant": np.array(["<b>mer</b>"] * 900)}
    write_dataset(tmp_path / "input/dataset", columns)
    trained(tmp_path / "input", (1,))
    assessment = assess.read(tmp_path / "input", small_lender())
    assess.write(assessment, CARD, "<i>run</i>", tmp_path / "out")
    report = (tmp_path / "out/report.html").read_text()
    assert "<b>mer" not in report
    assert "<i>run" not in report
    assert "&lt;i&gt;run" in report
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["reasons"]["stability"] is None


def test_the_card_says_who_answers_and_what_was_measured(done):
    card = done.card
    assert (card["owner"], card["tier"], card["validator"]) == ("Credit risk", "low", "Model validation")
    assert card["bundle"] == done.bundle.sha
    assert card["thresholds"]["cutoff"] == done.bundle.cutoff
    assert card["data"]["rows"] == 900
    assert card["measured"]["auc"] == done.evaluation["discrimination"]["auc"]


def test_a_card_needs_an_independent_validator_and_no_gaps():
    declared = {name: getattr(CARD, name) for name in CARD.__struct_fields__}
    with pytest.raises(DefinitionError, match="must not be its developer"):
        ModelCard(**declared | {"validator": CARD.developer})
    with pytest.raises(DefinitionError, match="says nothing of: purpose, limits"):
        ModelCard(**declared | {"purpose": "", "limits": ()})


def test_a_champion_is_compared_on_what_it_cannot_know(done, tmp_path):
    earlier = format_rfc3339(AS_OF - 30 * DAY)
    champion = structs.replace(
        done.bundle, lineage=dict(done.bundle.lineage) | {"as_of": earlier}, cutoff=0.2
    )
    evaluation = evaluated(tmp_path, champion=champion).evaluation
    data = population()
    late = data["q"] >= done.bundle.metrics["period_from"]
    unseen = late & (data["known_at"] >= AS_OF - 30 * DAY)
    assert evaluation["champion"] == champion.sha
    assert evaluation["comparison"]["n"] == unseen.sum() < late.sum()
    assert (
        evaluation["comparison"]["low"]
        <= evaluation["comparison"]["auc_difference"]
        <= evaluation["comparison"]["high"]
    )
    swap = evaluation["swap_set"]
    assert swap["both"] + swap["neither"] + swap["in"]["n"] + swap["out"]["n"] == unseen.sum()


@pytest.mark.parametrize("known", [True, False], ids=["has seen everything", "does not say what it has seen"])
def test_a_champion_that_may_have_seen_it_is_not_compared(done, tmp_path, known):
    champion = done.bundle if known else structs.replace(done.bundle, lineage={"run": "old"})
    evaluation = replace(assess.read(done.root / "input", small_lender()), champion=champion).to_json("r1")
    assert evaluation["champion"] == champion.sha
    assert evaluation["comparison"] is evaluation["swap_set"] is None


def test_declined_applicants_and_groups_are_told_where_they_are_given(done):
    output = JobOutput.read((done.root / "input/model/model.tar.gz").read_bytes())
    data = population(seed=9)
    features = {name: data[name] for name in small_lender().features}
    inputs = done.root / "input"
    pq.write_table(pa.table(features), inputs / "dataset/declined.parquet")
    (inputs / "groups").mkdir()
    sides = ["left" if number % 3 else "right" for number in range(900)]
    ids = [f"chk_{number}" for number in range(900)]
    pq.write_table(pa.table({"row_id": ids, "side": sides}), inputs / "groups/groups.parquet")
    try:
        evaluation = assess.read(inputs, small_lender()).to_json("r1")
    finally:
        (inputs / "dataset/declined.parquet").unlink()
        (inputs / "groups/groups.parquet").unlink()
    assert evaluation["reject_inference"]["spread"] > 0
    (group,) = evaluation["fairness"]["groups"]
    assert (group["group"], group["reference"], group["n"]) == ("right", "left", 60)
    data = population()
    late = np.flatnonzero(data["q"] >= done.bundle.metrics["period_from"])
    pd = [done.bundle.score(score) for score in raw_scores(output.validation[1], values(data)[late]).tolist()]
    approved = [
        np.mean([p <= done.bundle.cutoff for p, row in zip(pd, late, strict=True) if sides[row] == side])
        for side in ("right", "left")
    ]
    assert group["air"] == pytest.approx(approved[0] / approved[1])
    tried = evaluation["fairness"]["alternatives"]
    assert [candidate["name"] for candidate in tried[:3]] == [
        "as it is",
        "without repayment",
        "without request",
    ]
    assert tried[0]["auc"] == pytest.approx(evaluation["discrimination"]["auc"])
    assert "Less discriminatory alternatives" in page(evaluation, done.card, {"R1": "one", "R2": "two"})


def test_the_entry_follows_the_contract_of_processing(done, monkeypatch, capsys):
    monkeypatch.setattr("lender.DEFINITIONS", small_lender())
    monkeypatch.setattr("lender.MODEL_CARD", CARD)
    monkeypatch.setenv("PROCESSING_ROOT", str(done.root))
    assert assess.main(["--run", "r2"]) == 0
    out = done.root / "output/evaluation"
    assert json.loads((out / "evaluation.json").read_text())["run"] == "r2"
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "model_card.json", "report.html"}
    assert "leakage suspected: False" in capsys.readouterr().out


def test_what_does_not_belong_together_is_refused(done, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lender.DEFINITIONS", small_lender())
    monkeypatch.setenv("PROCESSING_ROOT", str(tmp_path))
    inputs = tmp_path / "input"
    write_dataset(inputs / "dataset", seed=6)
    (inputs / "model").mkdir()
    model = (done.root / "input/model/model.tar.gz").read_bytes()
    (inputs / "model/model.tar.gz").write_bytes(model)
    assert assess.main([]) == 1
    assert "trained on another data set" in capsys.readouterr().err
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/bundle.json").write_bytes(done.bundle.to_bytes())
    (inputs / "model/model.tar.gz").write_bytes(packed(tmp_path / "bare"))
    assert assess.main([]) == 1
    assert "no validation model of seed 1, 2" in capsys.readouterr().err
