"""The image of the jobs holds what they import, in the versions that the tests run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pins(path: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+==[^ ;]+)", path.read_text(), flags=re.MULTILINE))


def job_modules() -> set[str]:
    """Modules that the stacks start as jobs."""
    sources = "".join(path.read_text() for path in (ROOT / "stacks").rglob("*.py"))
    return set(re.findall(r'"ContainerEntrypoint": \["python", "-m", "([a-z_.]+)"\]', sources))


WITHOUT_OTHERS = """
import importlib, importlib.metadata, sys

names, locked = sys.argv[1].split(), set(sys.argv[2].split())
owners = importlib.metadata.packages_distributions()


class Image:
    def find_spec(self, name, path=None, target=None):
        found = {owner.lower().replace("_", "-").replace(".", "-") for owner in owners.get(name, ())}
        if found and not found & locked:
            raise ModuleNotFoundError(f"the image has no {name}", name=name)


sys.meta_path.insert(0, Image())
for name in names:
    importlib.import_module(name)
"""


def test_every_job_starts_with_the_locked_packages_alone():
    locked = {pin.partition("==")[0] for pin in pins(ROOT / "training/requirements.txt")}
    names = job_modules()
    assert {"training.dataset", "training.fit", "training.evaluate"} <= names
    line = [sys.executable, "-c", WITHOUT_OTHERS, " ".join(sorted(names)), " ".join(sorted(locked))]
    code = (ROOT, ROOT / "layers/core/python", ROOT / "layers/lender/python")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, code))}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_image_has_the_versions_of_the_tests():
    assert pins(ROOT / "training/requirements.txt") <= pins(ROOT / "requirements.txt")
    required = re.findall(
        r"^([a-z0-9-]+)", (ROOT / "training/requirements.in").read_text(), flags=re.MULTILINE
    )
    assert set(required) <= {pin.partition("==")[0] for pin in pins(ROOT / "training/requirements.txt")}


def test_every_hash_is_there():
    lines = (ROOT / "training/requirements.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9-]+==)", lines, flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
