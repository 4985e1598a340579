"""Simulated worlds are reproducible, detect planted faults, reach every situation, and find no violation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.faults import KINDS, PLANTS
from simulation.world import run

ROOT = Path(__file__).resolve().parents[2]
SITUATIONS = {
    *KINDS,
    "committed",
    "committed with markers",
    "conflict",
    "conflict with markers",
    "duplicates with markers",
    "item expired",
    "ring overflowed",
    "marker expired",
    "refused",
    "redriven",
    "began to heal",
    "healed",
    "told of too_late",
    "told of stale",
    "decided",
    "contended",
    "decision answered again",
    "claimed",
    "imported event known",
    "importer began anew",
    "import done",
}


def simulate(*arguments, planted="", hash_seed="random"):
    environment = os.environ | {
        "CANDOR_PLANTED_FAULT": planted,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/core/python'}",
    }
    return subprocess.run(
        check=False,
        args=[sys.executable, "-m", "simulation", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("worlds", [40, pytest.param(200, marks=pytest.mark.deep)])
def test_worlds_equal_the_oracle_and_every_fault_and_situation_occurs(worlds, thorough):
    done = simulate("--seeds", str(10 * worlds if thorough else worlds), "--json")
    report = json.loads(done.stdout)
    assert report["violations"] == []
    assert done.returncode == 0
    assert SITUATIONS - report["reached"].keys() == set()
    staleness = report["staleness"]
    assert staleness["items_healed"] > 0
    assert 0 < staleness["median_seconds"] <= staleness["worst_seconds"]


@pytest.mark.parametrize("planted", PLANTS)
def test_a_planted_fault_is_caught_within_fifty_seeds(planted):
    assert any(run(seed, planted).violation for seed in range(50))


def test_a_planted_fault_leaves_nothing_behind():
    seeds = (0, 3)
    before = [run(seed).digest for seed in seeds]
    for planted in PLANTS:
        assert [run(seed, planted).digest for seed in seeds] != before
    assert [run(seed).digest for seed in seeds] == before


@pytest.mark.parametrize("seed", [1, 3, 33])
def test_a_seed_takes_the_same_course_in_every_process(seed):
    reports = [
        json.loads(simulate("--seed", str(seed), "--json", hash_seed=salt).stdout) for salt in ("1", "2")
    ]
    assert reports[0] == reports[1]
    assert reports[0]["digest"] == run(seed).digest


def test_another_seed_takes_another_course():
    assert len({run(seed).digest for seed in range(5)}) == 5


def test_a_failure_names_the_command_that_replays_it_and_its_last_steps():
    done = simulate("--seeds", "2", "--jobs", "1", planted="no-dedupe")
    assert done.returncode == 1
    assert "CANDOR_PLANTED_FAULT=no-dedupe make simulate SEED=0" in done.stdout
    assert "VIOLATION" in done.stdout
    assert "stale items healed" in done.stdout
    process = simulate("--seed", "0", planted="no-dedupe")
    assert process.returncode == 1
    assert process.stdout.splitlines()[-2].split("VIOLATION")[1].strip() in done.stdout


def test_a_crash_of_the_product_is_a_violation_of_its_seed(monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr("candor.ingest._groups", broken)
    result = run(1)
    assert result.violation == "ZeroDivisionError: no such luck"
    assert any("test_worlds.py" in line for line in result.trace)


def test_an_unknown_planted_fault_is_refused_with_the_known_ones():
    done = simulate("--seeds", "1", planted="no-such")
    assert done.returncode == 2
    assert all(name in done.stderr for name in PLANTS)
