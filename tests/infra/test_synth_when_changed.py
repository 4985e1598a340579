"""`scripts/synth-when-changed`, with a fake Python in place of the synthesis."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.infra.conftest import ROOT

SYNTHESIS = """#!/bin/sh
echo ran >>runs
echo 'Bundling asset app-one/Function/Code/Stage...' >&2
echo 'Bundling asset app-one/Layers/Core/Code/Stage...' >&2
echo 'Bundling asset app-two/Function/Code/Stage...' >&2
{end}
"""
SUCCEEDS = "mkdir -p cdk.out && echo '{}' >cdk.out/manifest.json"
FAILS = "echo 'synthesis stopped: first cause' >&2; echo '  second line' >&2; exit 7"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy2(ROOT / "scripts" / "synth-when-changed", tmp_path / "scripts")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "app.py").write_text("one\n")
    return tmp_path


def synthesize(tree: Path, end: str) -> subprocess.CompletedProcess[str]:
    program = tree / ".venv" / "bin" / "python"
    program.write_text(SYNTHESIS.replace("{end}", end))
    program.chmod(0o755)
    return subprocess.run(
        [tree / "scripts" / "synth-when-changed"], capture_output=True, text=True, check=False
    )


def test_a_synthesis_shows_a_line_per_stack(tree: Path) -> None:
    result = synthesize(tree, SUCCEEDS)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1:] == [
        "  packing functions and layers of app-one",
        "  packing functions and layers of app-two",
        "  synthesized and checked: cdk.out",
    ]


def test_errors_pass_in_full_with_their_exit_code_and_the_next_run_tries_again(tree: Path) -> None:
    result = synthesize(tree, FAILS)
    assert (result.returncode, result.stderr) == (7, "synthesis stopped: first cause\n  second line\n")
    assert synthesize(tree, SUCCEEDS).returncode == 0


def test_only_changed_sources_or_another_assembly_are_synthesized(tree: Path) -> None:
    assert synthesize(tree, SUCCEEDS).returncode == 0
    assert synthesize(tree, SUCCEEDS).stdout == ""
    (tree / "app.py").write_text("two\n")
    assert synthesize(tree, SUCCEEDS).stdout
    (tree / "cdk.out" / "manifest.json").write_text("{1}\n")
    assert synthesize(tree, SUCCEEDS).stdout
    assert (tree / "runs").read_text() == 3 * "ran\n"
