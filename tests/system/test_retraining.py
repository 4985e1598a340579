"""A retraining that is killed at every state in turn and restarted: the same bundle, and no finished step repeated."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import descendants
from tests.system.running import PATIENCE_S, ROOT, environment, left_of

pytestmark = pytest.mark.deep

STATES = {
    "PrepareTraining": None,
    "BuildDataset": "dataset",
    "TrainModel": "train",
    "EvaluateModel": "assess",
    "RegisterModel": None,
    "PromoteModel": None,
}
"""Every state of the machine, and the job that it starts."""

JOBS = tuple(job for job in STATES.values() if job)


class Started:
    """One start of the program `retraining`, with its output."""

    def __init__(self, what: str, assembly: Path, state: Path, *rest: str) -> None:
        self._stdout = state / f"stdout-{time.monotonic_ns()}.txt"
        with self._stdout.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.system.retraining", what, str(assembly), str(state), *rest],
                cwd=ROOT,
                env=environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, f"ended before {what}: {self.stdout[-3000:]}"
            assert time.monotonic() < deadline, f"no {what}: {self.stdout[-3000:]}"
            time.sleep(0.004)

    def until_said(self, line: str) -> None:
        self.until(line, lambda: f"{line}\n" in self.stdout)

    def kill(self) -> list[int]:
        """Kill it; returns the processes that it left behind."""
        self.process.send_signal(signal.SIGSTOP)
        children = list(descendants(self.process.pid))
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        return left_of(children)

    def result(self) -> dict[str, Any]:
        assert self.process.wait(PATIENCE_S) == 0, self.stdout[-3000:]
        ended = next((line for line in self.stdout.splitlines() if line.startswith("ENDED ")), "ENDED {}")
        result: dict[str, Any] = json.loads(ended.removeprefix("ENDED "))
        return result


@dataclass
class Retrainings:
    """Results of an uninterrupted run, and of one that was killed at every state."""

    once: dict[str, Any]
    killed: dict[str, Any]
    once_jobs: list[str]
    killed_jobs: list[str]
    orphans: dict[str, list[int]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def retrainings(
    assembly: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Retrainings]:
    folder = tmp_path_factory.mktemp("retraining")
    loaded = folder / "loaded"
    loaded.mkdir()
    started: list[Started] = []

    def start(what: str, state: Path, *rest: str) -> Started:
        started.append(Started(what, assembly, state, *rest))
        return started[-1]

    try:
        start("load", loaded, str(data)).result()
        once, killed = (Path(shutil.copytree(loaded, folder / name)) for name in ("once", "killed"))
        orphans = {}
        ended = start("retrain", once).result()
        for state, job in STATES.items():
            running = start("retrain", killed)
            running.until_said(f"ENTERED {state}")
            if job:
                running.until(f"job {job}", lambda job=job: job in _jobs(killed))  # type: ignore[misc] # mypy takes the default for an argument
            orphans[state] = running.kill()
        yield Retrainings(ended, start("retrain", killed).result(), _jobs(once), _jobs(killed), orphans)
    finally:
        for each in started:
            if each.process.poll() is None:
                each.kill()


def _jobs(state: Path) -> list[str]:
    """Every job that was started, by its log file."""
    return sorted(path.stem.removeprefix("candor-dev-r1-") for path in (state / "logs/jobs").glob("*.log"))


def test_the_run_ends_as_one_that_nothing_interrupted(retrainings: Retrainings) -> None:
    assert retrainings.once["status"] == retrainings.killed["status"] == "SUCCEEDED", (
        retrainings.once,
        retrainings.killed,
    )
    assert retrainings.killed["bundle"] == retrainings.once["bundle"] is not None


def test_finished_steps_are_not_repeated(retrainings: Retrainings) -> None:
    """Each job was killed once, and done once after that; five more starts found it done."""
    assert retrainings.once_jobs == sorted(JOBS)
    assert retrainings.killed_jobs == sorted([*JOBS, *(f"{job}-2" for job in JOBS)])


def test_the_bundle_was_registered_and_promoted_once(retrainings: Retrainings) -> None:
    assert (
        retrainings.killed["steps"]
        == [[None, "candidate"], ["candidate", "champion"]]
        == retrainings.once["steps"]
    )


def test_no_process_outlives_a_kill(retrainings: Retrainings) -> None:
    assert {state: left for state, left in retrainings.orphans.items() if left} == {}
    assert os.getpid() not in {pid for left in retrainings.orphans.values() for pid in left}
