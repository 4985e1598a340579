"""`python -m benchmarks.served_replay [--data FOLDER] [--kills] [--json]`: as-served replay of every decision of a run.

Starts a local system of its own on the lender's data (the simulated one without --data), which loads history,
trains and decides. With --kills the updater's workers and the store are killed (kill -9) again and again meanwhile.
Then every decision's vector is computed again from the archive at the logged versions, and compared bit for bit.
Exits with 1 when anything differs, cannot be replayed or explained, or is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.kills import Killer
from benchmarks.load import stored_answers
from benchmarks.results import keep


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served_replay", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of real data, as DATA= of `make run`")
    parser.add_argument("--kills", action="store_true", help="kill updater and store in mid-load")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--json", action="store_true", help="print JSON alone on standard output")
    options = parser.parse_args(arguments)
    output = sys.stderr if options.json else sys.stdout
    with tempfile.TemporaryDirectory() as folder, _system(Path(folder), options.data) as system:
        killer = Killer(system.pid, seed=options.seed, done=lambda: _is_decided(Path(folder)))
        with killer if options.kills else nullcontext():
            for line in _until_ready(system):
                print(line, end="", file=output, flush=True)
        summary = _replayed(Path(folder)) | {"killed": dict(killer.killed)}
    text = keep("served_replay", summary)
    if options.json:
        print(text)
    else:
        _print(summary)
    return 0 if is_exact(summary) else 1


def _print(summary: dict[str, Any]) -> None:
    table = Table("", "", show_header=False)
    for name, value in summary.items():
        text = (
            " ".join(f"{key}={count}" for key, count in value.items()) or "none"
            if isinstance(value, dict)
            else str(value)
        )
        table.add_row(name, text)
    Console().print(table)


def _is_decided(state: Path) -> bool:
    """True once every checkout of the population has its answer: only the report follows."""
    progress, answers = state / "journey" / "progress.json", state / "journey" / "answers.jsonl"
    if not answers.exists():
        return False
    match = re.search(r"(\d+) checkouts", json.loads(progress.read_text())["population"])
    return match is not None and answers.read_bytes().count(b"\n") >= int(match[1])


def is_exact(summary: dict[str, Any]) -> bool:
    """True if every decision that is stored was replayed to the same bits, and as-of differences have causes."""
    whole = summary["stored"] == summary["decisions"] == summary["exact"] > 0
    return whole and not summary["as_served_mismatches"] and not summary["unexplained"]


def replay(state: Path) -> dict[str, Any]:
    """Summary of the terminal program's replay and consistency reports of a running system."""
    replayed = called("replay", state)
    report = called("consistency", state)
    return {
        "decisions": replayed["decisions"],
        "exact": replayed["exact"],
        "different": replayed["different"],
        "not_replayable": replayed["not_replayable"],
        "as_served_mismatches": report["as_served_mismatches"],
        "compared_as_of": report["compared"],
        "features_as_of": report["features"],
        "causes": {cause: tally["features"] for cause, tally in report["causes"].items()},
        "unexplained": len(report["unexplained"]),
    }


def _replayed(state: Path) -> dict[str, Any]:
    return {"stored": len(stored_answers(state))} | replay(state)


def called(command: str, state: Path, *options: str) -> dict[str, Any]:
    """Output of `candor features COMMAND --json` for the system that runs in this folder."""
    words = ["features", command, "--local", "--state", str(state), "--json", *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words], env=environment, stdout=subprocess.PIPE, check=False
    )
    output: dict[str, Any] = json.loads(done.stdout)
    return output


@contextmanager
def _system(state: Path, data: Path | None) -> Iterator[subprocess.Popen[str]]:
    environment = {name: text for name, text in os.environ.items() if name not in ("ONCE", "DATA")}
    if data is not None:
        environment["DATA"] = str(data)
    command = [sys.executable, "-m", "demo", "--state", str(state), "--port", "0"]
    system = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield system
    finally:
        system.send_signal(signal.SIGINT)
        system.communicate()


def _until_ready(system: subprocess.Popen[str]) -> Iterator[str]:
    assert system.stdout is not None
    for line in system.stdout:
        yield line
        if line.startswith("READY "):
            return
    raise SystemExit("the system did not start")


if __name__ == "__main__":
    sys.exit(main())
