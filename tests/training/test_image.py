"""The image of the jobs holds what they import, in the versions that the tests run."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = {"candor", "history", "lender", "training"}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "ibis": "ibis-framework"}


def pins(path: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+==[^ ;]+)", path.read_text(), flags=re.MULTILINE))


def imported() -> set[str]:
    """Top-level packages that training imports, wherever in a file."""
    found = set()
    for path in (ROOT / "training").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - OURS - set(sys.stdlib_module_names)


def test_the_lock_names_all_that_the_training_job_imports():
    locked = {pin.partition("==")[0] for pin in pins(ROOT / "training/requirements.txt")}
    needed = {DISTRIBUTIONS.get(name, name) for name in imported()}
    assert {"lightgbm", "matplotlib", "optuna"} <= needed
    assert needed <= locked


def test_the_image_has_the_versions_of_the_tests():
    assert pins(ROOT / "training/requirements.txt") <= pins(ROOT / "requirements.txt")
    asked = re.findall(r"^([a-z0-9-]+)", (ROOT / "training/requirements.in").read_text(), flags=re.MULTILINE)
    assert set(asked) <= {pin.partition("==")[0] for pin in pins(ROOT / "training/requirements.txt")}


def test_every_hash_is_there():
    lines = (ROOT / "training/requirements.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9-]+==)", lines, flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
