"""A past population through the distributed map, and on one machine: the same rows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.system.conftest import Served
from tests.system.running import ROOT, environment


def candor(served: Served, *words: str) -> dict[str, Any]:
    line = [sys.executable, "-m", "cli", *words, "--local", "--state", str(served.running.state), "--json"]
    done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def rows(folder: Path) -> list[dict[str, Any]]:
    table = [row for path in sorted(folder.rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return sorted(table, key=lambda row: str(row["decision_id"]))


def test_jobs_of_the_map_judge_as_one_machine_does(served: Served, tmp_path: Path) -> None:
    [registered] = candor(served, "models", "list")["bundles"]
    rescore = ("decisions", "rescore", "--bundle", registered["bundle"][:12], "--out", str(tmp_path))
    by_jobs = candor(served, *rescore, "--name", "jobs")
    here = candor(served, *rescore, "--name", "here", "--here")
    by_id = {row["decision_id"]: row for row in rows(tmp_path / "jobs")}
    assert by_jobs["rows"] == here["rows"] == len(by_id)
    assert rows(tmp_path / "jobs") == rows(tmp_path / "here")
    for decision_id, record in served.contents.records.items():  # other tests have decided since
        row = by_id[decision_id]
        assert (row["score"], row["outcome"]) == (record["score"], record["outcome"])
    again = candor(served, *rescore, "--name", "jobs")
    assert again == by_jobs
    jobs = list((served.running.state / "logs/jobs").glob("candor-dev-jobs-*.log"))
    assert len(jobs) == len(list((tmp_path / "jobs").glob("day=*")))
