"""The templates as CloudFormation reads them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.deep
def test_cfn_lint_finds_nothing(assemblies):
    paths = [
        str(path) for each in assemblies.values() for path in sorted(each.folder.glob("*.template.json"))
    ]
    program = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([program, *paths], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_nothing_is_looked_up_in_an_account(assembly):
    manifest = json.loads((assembly.folder / "manifest.json").read_text("utf-8"))
    assert "missing" not in manifest
    assert "dummy-value" not in json.dumps(assembly.templates)


def test_six_stacks_and_no_more(assembly):
    assert set(assembly.templates) == {
        "storage", "ingestion", "history", "serving", "training", "observability",
    }  # fmt: skip
