"""Imports at a cold start: the scorer loads nothing that scoring does not need."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from candor.registry.gates import Thresholds
from stacks.constructs import layer_build

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES: tuple[Path, ...] = (ROOT / "layers" / "core" / "python", ROOT / "layers" / "lender" / "python")
HEAVY = (
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "lightgbm",
    "numpy",
    "pandas",
    "pydantic",
    "pynamodb",
    "scipy",
    "sklearn",
)
pytestmark = pytest.mark.slow

SLOW = ("ast", "dataclasses", "inspect", "pathlib", "typing_extensions")
"""Modules whose import costs more than it is worth at a cold start."""

SETTINGS = {
    "GATES": json.dumps(asdict(Thresholds())),
    "GUARD": json.dumps({"hours": 1, "min_decisions": 1, "max_degraded": 0.1, "max_approval_change": 0.1}),
}
"""Environment variables that handlers parse at import; the others may have any value."""

ELSEWHERE = ("aws_cdk", "local", "moto", "stacks", "training")
UNDEPLOYED = ("lightgbm", "numpy", "pandas", "pydantic", "scipy", "sklearn")
WITH_HISTORY = ("heal_features", "index_archive")
"""Functions that have the layer of `history`; tests/infra/test_functions.py checks the list."""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer that holds a part of `history`, as functions get it."""
    folder = tmp_path_factory.mktemp("history")
    layer_build.copy_package(ROOT / "history", layer_build.HISTORY, folder)
    return folder / "python"


def imported_by(function: str, *layers: Path) -> set[str]:
    """Top-level packages in a fresh interpreter that imported the handler and nothing else."""
    program = "import sys, handler; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    folder = ROOT / "functions" / function
    required = re.findall(r'os\.environ\["(\w+)"\]', (folder / "handler.py").read_text(encoding="utf-8"))
    environment = {
        **{name: SETTINGS.get(name, "1") for name in required},
        "AWS_DEFAULT_REGION": "us-east-1",  # Lambda sets both
        "AWS_REGION": "us-east-1",
        "PATH": os.environ["PATH"],
        "POWERTOOLS_METRICS_NAMESPACE": "Candor",
        "POWERTOOLS_SERVICE_NAME": function,
        "PYTHONPATH": os.pathsep.join(map(str, (folder, *LIBRARIES, *layers))),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_scorer_imports_neither_clients_nor_numerics():
    loaded = imported_by("score")

    assert "candor" in loaded
    assert loaded.isdisjoint((*HEAVY, *SLOW))


def test_who_needs_typing_extensions_after_candor_has_it():
    program = "import candor, typing_extensions; print(typing_extensions.TypedDict.__name__)"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(LIBRARIES[0])}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "TypedDict\n"


@pytest.mark.parametrize("function", sorted(path.parent.name for path in ROOT.glob("functions/*/handler.py")))
def test_no_function_imports_what_is_not_deployed_with_it(function, history):
    layers = (history,) if function in WITH_HISTORY else ()
    assert imported_by(function, *layers).isdisjoint((*ELSEWHERE, *UNDEPLOYED))


def test_the_layer_of_history_is_whole_and_light(history):
    """Every module of it, and not only what the functions import today."""
    modules = sorted(
        ".".join(path.relative_to(history).with_suffix("").parts) for path in history.rglob("*.py")
    )
    program = f"import sys\nfor name in {modules}: __import__(name)\nprint(*sys.modules)"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, (*LIBRARIES, history)))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "history" in loaded
    assert loaded.isdisjoint((*ELSEWHERE, *UNDEPLOYED, "duckdb", "polars", "pyarrow"))
