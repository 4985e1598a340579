"""Rounds, directions, weights, search, interruption and several hosts: each is correct and reproducible."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from candor import Monotone
from candor.errors import DefinitionError
from tests.training.conftest import AS_OF, REASONS, small_lender
from tests.training.evaluated import POLICY, population, write_dataset
from training.dataset.read import read_training_set
from training.dataset.split import CannotLearn, Split, split_by_time
from training.fit import job as training_job
from training.fit import steps
from training.fit.checkpoints import Checkpoints
from training.fit.hosts import Hosts
from training.fit.hyperparameters import Settings
from training.fit.recipe import Recipe, raw_scores
from training.fit.search import BATCH, search
from training.fit.steps import FIXED_ROUNDS, RunContext, TrainingPlan, run_context
from training.metrics.scores import auc

FEATURES = small_lender().features
RISING = Monotone(rising=("loans.max_days_late.*", "tries.*"), falling=("request.amount",))
SETTINGS = Settings(run="r1", as_of="2024-06-01T00:00:00Z", seeds=(1, 2), rounds=60, early_stopping=10)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_training_set(write_dataset(tmp_path_factory.mktemp("plan")), small_lender())


def trained(data, settings=SETTINGS, monotone=RISING, context=training_job.ALONE):
    return training_job.train(data, settings, small_lender(), REASONS, POLICY, monotone, context)


# ------------------------------------------------------------------------------------------ directions


def test_a_direction_is_never_contradicted(data):
    rows = np.arange(len(data.bad))
    free = Recipe(FEATURES, (0,) * 6, 80)
    bound = Recipe(FEATURES, RISING.of(FEATURES), 80)
    grid = np.tile(data.values[:60], (16, 1))
    grid[:, 4] = np.repeat(np.arange(16.0), 60)
    steps = {}
    for name, recipe in (("free", free), ("bound", bound)):
        scores = raw_scores(recipe.fit(data, rows, 1), grid).reshape(16, 60)
        steps[name] = np.diff(scores, axis=0)
    assert steps["bound"].min() >= 0.0
    assert steps["free"].min() < 0.0


def test_directions_are_named_by_globs_and_change_no_definition():
    assert RISING.of(FEATURES) == (0, 0, 1, 1, 1, -1)
    assert Monotone().of(FEATURES) == (0,) * 6
    with pytest.raises(DefinitionError, match=r'no feature is named "loan\.\*"'):
        Monotone(rising=("loan.*",)).of(FEATURES)
    with pytest.raises(DefinitionError, match="cannot both rise and fall"):
        Monotone(rising=("loans.*",), falling=("loans.count.90d",)).of(FEATURES)


# ---------------------------------------------------------------------------------------------- rounds


def test_early_stopping_finds_the_best_round_of_the_late_rows(data):
    split = split_by_time(data.q, data.known_at, 0.3)
    recipe = Recipe(FEATURES, (0,) * 6, 200)
    best, _ = recipe.best_rounds(data, split, 1, patience=30)
    losses = []
    for rounds in range(1, best + 31):
        raw = raw_scores(
            Recipe(FEATURES, (0,) * 6, rounds).fit(data, split.early, 1), data.values[split.late]
        )
        signed = np.where(data.bad[split.late] == 1, -raw, raw)
        losses.append(float(np.log1p(np.exp(signed)).mean()))
    assert int(np.argmin(losses)) + 1 == best


def test_more_rows_carry_more_rounds_up_to_the_most():
    recipe = Recipe(FEATURES, (0,) * 6, 500).with_rounds([90, 100, 120], rows=1_000)
    assert [recipe.rounds_for(rows) for rows in (500, 1_000, 2_000, 90_000)] == [50, 100, 200, 500]
    assert Recipe(FEATURES, (0,) * 6, 40).rounds_for(9) == 40
    again = Recipe.of(FEATURES, recipe.to_lineage(2_000))
    assert [again.rounds_for(rows) for rows in (500, 1_000, 2_000)] == [50, 100, 200]
    assert Recipe.of(FEATURES, Recipe(FEATURES, (0,) * 6, 40).to_lineage(100)).rounds_for(9) == 40


def test_the_latest_part_takes_no_part_in_a_choice(data):
    split = split_by_time(data.q, data.known_at, SETTINGS.late_share)
    changed = data.bad.copy()
    changed[split.late] = 1 - changed[split.late]
    plans = [
        TrainingPlan(variant, SETTINGS, split, RunContext()) for variant in (data, replace(data, bad=changed))
    ]
    first, second = (plan.recipe(small_lender(), RISING) for plan in plans)
    assert first == second


def test_a_short_history_is_not_stopped_early_on(data, capsys):
    few = Split(np.arange(30), np.arange(30, 60), int(data.q[30]))
    settings = Settings(run="r", as_of="x")
    assert (
        TrainingPlan(data, settings, few, RunContext()).recipe(small_lender(), Monotone()).rounds
        == FIXED_ROUNDS
    )
    assert "too short for early stopping" in capsys.readouterr().out


def test_progress_can_be_charted(data, capsys):
    trained(data)
    output = capsys.readouterr().out
    assert "round=60" in output or "round=" in output
    assert any("auc=" in line and "round=" in line for line in output.splitlines() if line.startswith("fit:"))


# --------------------------------------------------------------------------------------------- weights


def test_a_weight_counts_as_so_many_rows(tmp_path):
    columns = population(rows=400)
    weight = np.where(np.arange(400) < 200, 2.0, 1.0)
    weighted = read_training_set(write_dataset(tmp_path / "a", columns | {"weight": weight}), small_lender())
    twice = {name: np.concatenate([column[:200], column]) for name, column in columns.items()}
    repeated = read_training_set(write_dataset(tmp_path / "b", twice), small_lender())
    plain = {"bagging_fraction": 1.0, "feature_fraction": 1.0, "min_data_in_leaf": 1, "num_leaves": 4}
    recipe = Recipe(FEATURES, (0,) * 6, 10, parameters={**Recipe(FEATURES, (0,) * 6, 1).parameters, **plain})
    weighted_scores, repeated_scores = (
        raw_scores(recipe.fit(data, np.arange(len(data.bad)), 1), weighted.values)
        for data in (weighted, repeated)
    )
    assert np.corrcoef(weighted_scores, repeated_scores)[0, 1] > 0.99


def test_a_weight_that_fits_nothing_is_refused(tmp_path):
    for weight in (np.full(900, -1.0), np.full(900, np.nan), np.zeros(900)):
        folder = write_dataset(tmp_path, population() | {"weight": weight})
        with pytest.raises(CannotLearn, match="column weight"):
            read_training_set(folder, small_lender())


def test_the_weight_of_bads_does_not_spoil_the_calibration(data):
    plain, heavy = trained(data), trained(data, replace(SETTINGS, bad_weight=5.0))
    late = data.q >= plain.bundle.metrics["period_from"]
    for result in (plain, heavy):
        raw = raw_scores(result.validation[1], data.values[late])
        pd = [result.bundle.calibration.probability(score) for score in raw.tolist()]
        assert np.mean(pd) == pytest.approx(data.bad[late].mean(), abs=1e-4)
    assert plain.bundle.sha != heavy.bundle.sha


# ---------------------------------------------------------------------------------------------- search


def test_a_search_repeats_and_is_told_in_order(data):
    settings = replace(SETTINGS, trials=6, seeds=(1,))
    first, second = trained(data, settings), trained(data, settings)
    assert first.bundle.sha == second.bundle.sha
    assert first.bundle.lineage["parameters"]["num_leaves"] >= 4
    assert first.bundle.lineage["trials"] == 6


def test_a_search_asks_in_batches_and_keeps_the_best():
    tried: list[float] = []

    def objective(chosen):
        tried.append(chosen["num_leaves"])
        return 1.0 - abs(chosen["num_leaves"] - 20) / 100, {"rounds": 1}

    best, more = search(objective, 2 * BATCH + 1, 1, lambda _, make: make())
    assert len(tried) == 2 * BATCH + 1
    assert abs(best["num_leaves"] - 20) == min(abs(leaves - 20) for leaves in tried)
    assert more == {"rounds": 1}


# ---------------------------------------------------------------------------------------- interruption


class Interrupted(Exception):
    """The spot instance was interrupted."""


def test_an_interrupted_training_ends_with_the_same_bundle(data, tmp_path, monkeypatch, capsys):
    settings = replace(SETTINGS, trials=2)
    undisturbed = trained(data, settings)
    fits = 0
    real = Recipe.fit

    def failing(self, *arguments):
        nonlocal fits
        fits += 1
        if fits == 3:
            raise Interrupted
        return real(self, *arguments)

    monkeypatch.setattr(Recipe, "fit", failing)
    context = run_context(Hosts(), tmp_path, data, settings, RISING)
    with pytest.raises(Interrupted):
        trained(data, settings, context=context)
    capsys.readouterr()
    resumed = trained(data, settings, context=run_context(Hosts(), tmp_path, data, settings, RISING))
    output = capsys.readouterr().out
    assert resumed.bundle.sha == undisturbed.bundle.sha
    assert resumed.seeds == undisturbed.seeds
    assert fits == 3 + 2, "two of four models were kept"
    for step in ("trial-0.json", "rounds-1.json", "validation-1.txt", "validation-2.txt"):
        assert f"checkpoint: {step} is already done" in output


def test_checkpoints_are_of_one_data_set_and_one_choice_of_settings(data, tmp_path):
    def folder(settings=SETTINGS, monotone=RISING, of=data):
        return run_context(Hosts(), tmp_path, of, settings, monotone).checkpoints.folder

    other = replace(data, manifest={**data.manifest, "sha256": "0" * 64})
    assert folder() == folder(replace(SETTINGS, run="another"))
    assert (
        len({folder(), folder(replace(SETTINGS, rounds=61)), folder(monotone=Monotone()), folder(of=other)})
        == 4
    )
    assert run_context(Hosts(), tmp_path / "none", data, SETTINGS, RISING).checkpoints == Checkpoints()
    pair = Hosts(("algo-1", "algo-2"), "algo-1")
    assert run_context(pair, tmp_path, data, SETTINGS, RISING).checkpoints == Checkpoints()


def test_checkpoints_depend_on_the_code_that_computes_them():
    sources = Path(steps.__file__).parents[1]
    imported = {
        f"{node.module.removeprefix('training.').replace('.', '/')}.py"
        for name in ("fit/steps.py", "fit/recipe.py", "fit/search.py")
        for node in ast.walk(ast.parse((sources / name).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module.startswith(("training.dataset.", "training.fit."))
    }
    computing = imported - {"fit/checkpoints.py", "fit/hosts.py", "fit/hyperparameters.py"}
    assert computing <= set(steps._CODE)


def test_a_step_that_was_cut_while_written_is_made_again(tmp_path):
    kept = Checkpoints.of(tmp_path, {"a": 1})
    assert kept.once("step.txt", lambda: "made") == "made"
    assert kept.once("step.txt", lambda: "never") == "made"
    (kept.folder / "step.txt").rename(kept.folder / "step.partial")
    assert kept.once("step.txt", lambda: "again") == "again"


# ----------------------------------------------------------------------------------------------- hosts


def test_hosts_come_from_the_toolkit_or_from_the_file(tmp_path):
    config = tmp_path / "resourceconfig.json"
    config.write_text(json.dumps({"current_host": "algo-2", "hosts": ["algo-2", "algo-1"]}))
    hosts = Hosts.of({"SM_HOSTS": '["algo-2", "algo-1"]', "SM_CURRENT_HOST": "algo-2"})
    assert hosts == Hosts.of({}, config) == Hosts(("algo-1", "algo-2"), "algo-2")
    assert (hosts.several, hosts.first) == (True, False)
    assert hosts.share(np.arange(5)).tolist() == [1, 3]
    alone = Hosts.of({}, tmp_path / "none")
    assert (alone.several, alone.first, alone.parameters()) == (False, True, {})
    assert Hosts.of({"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-1"}).parameters() == {}


def free_ports() -> str:
    """The first of four free ports in a row: two hosts, two models."""
    for port in range(21_000, 29_000, 4):
        with ExitStack() as stack:
            try:
                for number in range(4):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
            except OSError:
                continue
            return str(port)
    raise RuntimeError("no four ports in a row are free")


JOB = """
import sys
from pathlib import Path
import numpy as np
from candor import Monotone
from tests.training.conftest import small_lender
from training.fit.hosts import Hosts
from training.fit.recipe import Recipe
from training.dataset.read import read_training_set
folder, out, current = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
data = read_training_set(folder, small_lender())
recipe = Recipe(small_lender().features, (0,) * 6, 60, hosts=Hosts(("127.0.0.1", "localhost"), current, int(sys.argv[4])))
texts = [recipe.fit(data, np.arange(3_000), seed) for seed in (1, 2)]
out.write_text(texts[0])
"""


def test_two_hosts_train_one_model_as_good_as_that_of_one(tmp_path):
    folder = write_dataset(tmp_path / "dataset", population(rows=4_000))
    names = ("127.0.0.1", "localhost")
    port, command = free_ports(), [sys.executable, "-c", JOB, str(folder)]
    jobs = [subprocess.Popen([*command, str(tmp_path / name), name, port], cwd=Path.cwd()) for name in names]
    try:
        assert [job.wait(240) for job in jobs] == [0, 0]
    finally:
        for job in jobs:
            job.kill()
    first, second = ((tmp_path / name).read_text() for name in names)
    assert first == second
    assert port not in first
    data = read_training_set(folder, small_lender())
    alone = Recipe(FEATURES, (0,) * 6, 60).fit(data, np.arange(3_000), 1)
    late = np.arange(3_000, 4_000)
    areas = [auc(data.bad[late], raw_scores(text, data.values[late])) for text in (first, alone)]
    assert areas[0] == pytest.approx(areas[1], abs=0.005)
    assert data.q[-1] < AS_OF
