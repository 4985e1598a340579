"""Training from a data set to a bundle that serves: same input, same bytes; errors in one line."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from candor import Monotone
from candor.model.bundle import Bundle
from candor.model.lightgbm import Booster
from candor.model.policy_document import PolicyDocument
from candor.policy import table_hash
from candor.reasons import Catalogue
from candor.registry.training_run import PinnedPolicy
from tests.decision_tables import row, table
from tests.training.conftest import AS_OF, REASONS, small_lender, write_archive
from training.dataset import split
from training.dataset.job import build
from training.dataset.read import read_training_set
from training.dataset.split import CannotLearn, split_by_time
from training.fit import job as train
from training.fit import recipe
from training.fit.calibrate import break_even, calibrate, expected_profit, mean_contributions
from training.fit.recipe import Recipe


def declining_above(threshold: str) -> dict:
    return table(
        [
            row("score", component="model", score=f"> {threshold}"),
            row("most", "approved", component="model", score="<= cutoff") | {"limit": "100000000"},
        ],
        {"score": "score"},
    )


POLICY = declining_above("cutoff")
HYPERPARAMETERS = {
    "run": "r1",
    "as_of": "2024-06-01T00:00:00Z",
    "seeds": "[2, 1]",
    "rounds": "40",
    "early_stopping": "0",
}


@pytest.fixture(scope="module")
def channel(tmp_path_factory, history):
    root = tmp_path_factory.mktemp("training")
    write_archive(root / "archive", history)
    build(small_lender(), root / "archive", root / "dataset", as_of=AS_OF, run="r1")
    return root / "dataset"


def run(monkeypatch, channel, out, **changes) -> int:
    monkeypatch.setattr("lender.DEFINITIONS", small_lender())
    monkeypatch.setattr("lender.REASONS", REASONS)
    monkeypatch.setattr("lender.MONOTONE", Monotone(rising=("loans.max_days_late.*",)))
    monkeypatch.setattr("lender.policy", lambda: POLICY)
    monkeypatch.setenv("SM_CHANNEL_DATASET", str(channel))
    monkeypatch.setenv("SM_MODEL_DIR", str(out))
    monkeypatch.setenv("SM_OUTPUT_DIR", str(out))
    monkeypatch.setenv("SM_HPS", json.dumps(HYPERPARAMETERS | changes))
    out.mkdir(exist_ok=True)
    return train.main()


@pytest.fixture
def trained(monkeypatch, channel, tmp_path):
    assert run(monkeypatch, channel, tmp_path / "model") == 0
    return tmp_path / "model"


def test_the_bundle_serves_and_carries_its_story(trained):
    bundle = Bundle.from_bytes((trained / "bundle.json").read_bytes())
    bundle.require(small_lender())
    assert bundle.to_bytes() == (trained / "bundle.json").read_bytes()
    assert {path.name for path in (trained / "seeds").iterdir()} == {"1.txt", "2.txt"}
    assert bundle.model == (trained / "seeds/2.txt").read_text()
    assert bundle.lineage["seeds"] == [2, 1]
    assert bundle.lineage["rows"] == 900
    assert set(bundle.reason_reference) == {"repayment", "request"}
    with Booster(bundle.model) as engine:
        risky = bundle.score(engine.raw([4.0, 8.0, 4.0, 8.0, 0.0, 5_000.0]))
        safe = bundle.score(engine.raw([4.0, -1.0, 4.0, -1.0, 0.0, 5_000.0]))
    assert safe < bundle.cutoff < risky


def test_the_released_table_is_trained_into_the_bundle_and_a_difference_to_the_code_is_printed(
    monkeypatch, channel, tmp_path, capsys, trained
):
    released = declining_above("cutoff / 2")
    folder = tmp_path / "policy"
    folder.mkdir()
    pinned = PinnedPolicy(3, PolicyDocument.of(released, REASONS))
    (folder / "released.json").write_text(json.dumps(pinned.as_json()))
    monkeypatch.setenv("SM_CHANNEL_POLICY", str(folder))
    assert run(monkeypatch, channel, tmp_path / "again") == 0
    plain = Bundle.from_bytes((trained / "bundle.json").read_bytes())
    made = Bundle.from_bytes((tmp_path / "again/bundle.json").read_bytes())
    assert made == pinned.document.applied_to(plain)
    assert made.sha != plain.sha
    printed = capsys.readouterr().out
    assert f"policy: table {table_hash(released)[:12]} of release 3" in printed
    assert f"policy: the code's table {table_hash(POLICY)[:12]} differs" in printed


def test_a_pinned_policy_that_cannot_be_read_stops_the_job(monkeypatch, channel, tmp_path, capsys):
    (tmp_path / "released.json").write_text('{"number": "three"}')
    monkeypatch.setenv("SM_CHANNEL_POLICY", str(tmp_path))
    assert run(monkeypatch, channel, tmp_path / "model") == 1
    assert "the run's policy cannot be read" in capsys.readouterr().err


def test_the_metrics_are_of_the_latest_period_and_of_every_seed(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics == dict(Bundle.from_bytes((trained / "bundle.json").read_bytes()).metrics)
    assert 175 <= metrics["n"] <= 185
    assert set(metrics["auc_per_seed"]) == {"1", "2"}
    assert metrics["auc"] == pytest.approx(sum(metrics["auc_per_seed"].values()) / 2)
    assert metrics["auc"] > 0.7
    assert metrics["profit_per_unit"] >= metrics["profit_per_unit_all"]


def test_the_same_data_set_gives_the_same_bytes(monkeypatch, channel, trained, tmp_path):
    assert run(monkeypatch, channel, tmp_path / "again") == 0
    for name in ("bundle.json", "seeds/1.txt", "metrics.json"):
        assert (trained / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_text_of_a_model_does_not_depend_on_the_number_of_threads(monkeypatch, channel):
    data = read_training_set(channel, small_lender())
    plain = Recipe(small_lender().features, (0,) * 6, 20)
    monkeypatch.setattr(recipe, "_ROWS_FOR_THREADS", 0)
    texts = set()
    for threads in ("1", "2"):
        monkeypatch.setenv("SM_NUM_CPUS", threads)
        texts.add(plain.fit(data, np.arange(len(data.bad)), 3))
    assert len(texts) == 1
    assert "num_threads" not in texts.pop()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "[]"}, "different integers"),
        ({"seeds": "[1, 1]"}, "different integers"),
        ({"seeds": "one"}, "hyperparameters"),
        ({"late_share": "x"}, "hyperparameters"),
        ({"learning": 1}, "unknown: learning"),
    ],
    ids=["no seed", "a seed twice", "no list", "no number", "unknown"],
)
def test_a_wrong_hyperparameter_fails_the_job_with_its_reason(
    monkeypatch, channel, tmp_path, changes, message
):
    assert run(monkeypatch, channel, tmp_path, **changes) == 1
    assert message in (tmp_path / "failure").read_text()


def test_a_data_set_that_was_changed_or_is_of_other_definitions_is_refused(channel, tmp_path):
    with pytest.raises(CannotLearn, match="built with other definitions"):
        read_training_set(channel, type(small_lender())(entities=[], events=[], views=[]))
    for name in ("manifest.json", "dataset.parquet"):
        (tmp_path / name).write_bytes((channel / name).read_bytes())
    (tmp_path / "dataset.parquet").write_bytes((channel / "dataset.parquet").read_bytes() + b"x")
    with pytest.raises(CannotLearn, match="is not the file"):
        read_training_set(tmp_path, small_lender())
    with pytest.raises(CannotLearn, match="channel dataset"):
        read_training_set(tmp_path / "missing", small_lender())


def test_too_few_bads_say_so(monkeypatch, channel, tmp_path):
    monkeypatch.setattr(split, "MIN_OF_EACH", 1_000)
    assert run(monkeypatch, channel, tmp_path) == 1
    assert "load more history" in (tmp_path / "failure").read_text()


def test_nothing_that_became_known_in_the_late_period_is_fitted_on():
    q, known_at = np.arange(10), np.array([0, 1, 2, 3, 4, 20, 6, 7, 20, 20])
    split = split_by_time(q, known_at, 0.3)
    assert split.at == 7
    assert split.early.tolist() == [0, 1, 2, 3, 4, 6]
    assert split.late.tolist() == [7, 8, 9]


def test_calibration_recovers_the_odds():
    random = np.random.default_rng(1)
    raw = random.normal(size=20_000)
    bad = (random.uniform(size=20_000) < 1 / (1 + np.exp(-(0.5 * raw - 2)))).astype(np.int8)
    calibrated = calibrate(raw, bad)
    assert (calibrated.slope, calibrated.intercept) == (
        pytest.approx(0.5, abs=0.05),
        pytest.approx(-2, abs=0.05),
    )
    with pytest.raises(CannotLearn, match="backwards"):
        calibrate(-raw, bad)


def test_at_the_break_even_income_equals_loss():
    amount, charge = np.array([100, 300]), np.array([10, 30])
    cutoff = break_even(amount, charge, fee=0.05, loss=0.45)
    assert (1 - cutoff) * 0.15 == pytest.approx(cutoff * 0.45)
    bad, pd = np.array([0, 1, 0, 1], dtype=np.int8), np.array([0.1, 0.2, 0.8, 0.9])
    assert expected_profit(bad, pd, 0.5, 0.15, 0.45) == pytest.approx((0.15 - 0.45) / 4)


def test_the_reason_reference_is_of_those_who_just_passed(trained):
    bundle = Bundle.from_bytes((trained / "bundle.json").read_bytes())
    catalogue = Catalogue(bundle.reasons, bundle.features)
    values = np.array([[n % 7, n % 9, n % 7, n % 9, n % 3, 5_000.0] for n in range(100)], dtype=float)
    pd = np.linspace(0.01, 0.99, 100)
    with Booster(bundle.model) as engine:
        reference = catalogue.by_factor(mean_contributions(engine, values, pd, 0.5))
        passed = [catalogue.by_factor(engine.contributions(row)[:-1]) for row in values[20:50].tolist()]
        nobody = catalogue.by_factor(mean_contributions(engine, values, pd, 0.001))
    assert reference["repayment"] == pytest.approx(
        math.fsum(contributions["repayment"] for contributions in passed) / 30
    )
    assert set(nobody) == set(reference)


def test_the_reason_reference_of_a_bundle_is_what_its_data_says(channel, trained):
    bundle = Bundle.from_bytes((trained / "bundle.json").read_bytes())
    values = read_training_set(channel, small_lender()).values
    catalogue = Catalogue(bundle.reasons, bundle.features)
    with Booster(bundle.model) as engine:
        pd = np.array([bundle.score(engine.raw(row)) for row in values.tolist()])
        means = mean_contributions(engine, values, pd, bundle.cutoff)
    assert bundle.reason_basis.reference == pytest.approx(means, abs=1e-9)
    assert catalogue.by_factor(means) == pytest.approx(dict(bundle.reason_reference), abs=1e-9)
    recorded = bundle.lineage["reason_reference"]
    near = sorted((probability for probability in pd.tolist() if probability <= bundle.cutoff), reverse=True)[
        : recorded["applicants"]
    ]
    assert (recorded["lowest_pd"], recorded["highest_pd"]) == pytest.approx((near[-1], near[0]))
    assert recorded["applicants"] >= 30
