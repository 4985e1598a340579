"""First decision of a sandbox: a fresh process imports the handler, loads the model, decides; CPU against boto3.

Bytecode is there for both, as the layers ship it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.request.world import ROOT, SETTINGS, proxied, world
from benchmarks.rounds import Measurement

ROUNDS = 9
REFERENCE = "import boto3, one DynamoDB client"
BUDGET = 0.33
MEGABYTES = 15
_OURS = "import json, sys, handler; answer = handler.handler(json.loads(sys.argv[1]), None); assert answer['statusCode'] == 200, answer"
_PROGRAMS = {
    "bare Python": "pass",
    REFERENCE: "import boto3; boto3.client('dynamodb')",
    "import the scorer's handler": "import handler",
    "handler, model of 500 trees x 63 leaves, first decision": _OURS,
}


def measure() -> Iterator[Measurement]:
    """Interleaved fresh processes, and the size of the engine."""
    with world() as services:
        libraries = ("functions/score", "layers/core/python", "layers/lender/python")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(str(ROOT / library) for library in libraries),
            **services.environment,
            **SETTINGS,
        }
        samples: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
        for turn in range(ROUNDS + 1):
            for name, program in _PROGRAMS.items():
                spent = _cpu_ms([sys.executable, "-c", program, json.dumps(proxied(turn))], environment)
                if turn > 0:  # the first one writes bytecode and fills the page cache
                    samples[name].append(spent)
    spent_ms = {name: median(times) for name, times in samples.items()}
    for name, value in spent_ms.items():
        ratio = value / spent_ms[REFERENCE]
        limit = BUDGET if "first decision" in name else None
        yield Measurement("cold start", name, value, REFERENCE, ratio, limit, "ms", "ratio at most")
    yield from _engine()


def _engine() -> Iterator[Measurement]:
    """Size of the engine layer, where `make synth` has built it."""
    for library in sorted((ROOT / ".cache" / "layers").glob("*/lib/lib_lightgbm.so")):
        total = sum(path.stat().st_size for path in _files(library.parents[1])) / 1_000_000
        yield Measurement("cold start", "engine layer, unzipped", total, budget=MEGABYTES, unit="MB")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _cpu_ms(command: list[str], environment: dict[str, str]) -> float:
    """User and system time of a whole process. Raises RuntimeError if it failed."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[2]} ended with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1_000
