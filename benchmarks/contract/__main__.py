"""`python -m benchmarks.contract --state .local [--cases 1000]`: Schemathesis against a running local API.

Every operation of docs/reference/openapi.json gets `--cases` valid and invalid requests: each response must have a
declared status, headers and body, valid requests must be accepted and invalid ones refused, and none may be a 5xx.
Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import CheckoutCall, Door, calls_for, door_of, post_all

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/reference/openapi.json"
CONFIG = Path(__file__).with_name("schemathesis.toml")


def stored_decision(door: Door) -> str:
    """Id of a new decision of this door's merchant."""
    call: CheckoutCall = next(iter(calls_for(1)))
    (answer,) = post_all(door, [call], 1, patient=True)
    return str(json.loads(answer.body)["id"])


def command(url: str, cases: int, seed: int, phases: str) -> list[str]:
    """Command line of Schemathesis."""
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)]
    options: dict[str, object] = {
        "--url": url,
        "--max-examples": cases,
        "--phases": phases,
        "--seed": seed,
    }
    return [*program, "run", str(DOCUMENT), *(str(part) for pair in options.items() for part in pair)]


def run(
    door: Door, cases: int, seed: int = 1, phases: str = "coverage,fuzzing", report: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Schemathesis; exit code 0 if the API kept its contract. `report`: path of the JSON report."""
    report_options = ["--report-json-path", str(report)] if report else []
    environment = {"CONTRACT_KEY": door.key, "CONTRACT_DECISION": stored_decision(door)}
    return subprocess.run(
        [*command(door.url, cases, seed, phases), "--workers", "2", *report_options],
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Test the running system."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contract", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000, help="for each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, default=Path(".local"), help="folder of a system that serves")
    parser.add_argument("--report", type=Path, help="where to write Schemathesis's JSON report")
    options = parser.parse_args(arguments)
    done = run(door_of(options.state), options.cases, options.seed, report=options.report)
    print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
