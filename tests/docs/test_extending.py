"""docs/how-to/extend/: each page's code, applied to a copy of the tree, does what the page says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "how-to" / "extend"
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
INFRA = {"add-a-function"}
NAMES = sorted(path.stem for path in FOLDER.glob("add-*.md"))

BLOCK = re.compile(r"^<!-- (file: [^\n]*|run) -->\n+```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PLACE = re.compile(r'file: (?P<file>[^;]+)(?:; (?P<where>after|before|replace): "(?P<anchor>.+)")?')


class Change(NamedTuple):
    """Text that goes into a file: at a line that begins with `anchor`, or as the whole of a new file."""

    file: str
    where: str | None
    anchor: str | None
    text: str


def page_of(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def changes(page: str) -> list[Change]:
    blocks = [(PLACE.fullmatch(mark), text) for mark, text in BLOCK.findall(page) if mark != "run"]
    return [Change(place["file"], place["where"], place["anchor"], text) for place, text in blocks]


def commands(page: str) -> list[str]:
    return [line for mark, text in BLOCK.findall(page) if mark == "run" for line in text.splitlines()]


def copy_tree(target: Path) -> None:
    """The files of the working tree that git knows of."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def apply(change: Change, tree: Path) -> None:
    path = tree / change.file
    if change.anchor is None:
        assert not path.exists(), f"{change.file} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change.text, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.strip().startswith(change.anchor)]
    assert len(found) == 1, f"{change.file}: {len(found)} lines begin with {change.anchor!r}"
    start, end = {
        "after": (found[0] + 1, found[0] + 1),
        "before": (found[0], found[0]),
        "replace": (found[0], found[0] + 1),
    }[change.where]
    lines[start:end] = [change.text]
    path.write_text("".join(lines), encoding="utf-8")


def run(command: str, tree: Path) -> None:
    python = ("candor", "layers/core/python", "layers/lender/python")
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(tree), *(str(tree / folder) for folder in python[1:])]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
    }
    words = shlex.split(command)
    if words[0] in ("python", "pytest"):
        words = [sys.executable, *(["-m", "pytest", "-p", "no:cacheprovider"] if words[0] == "pytest" else [])] + words[1:]
    done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.infra] if name in INFRA else []) for name in NAMES]
)
def test_the_page_does_what_it_says(name: str, tmp_path: Path):
    page = page_of(name)
    copy_tree(tmp_path)
    for change in changes(page):
        apply(change, tmp_path)

    assert commands(page)
    for command in commands(page):
        run(command, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_lists_the_files_that_its_code_changes_in_order(name: str):
    page = page_of(name)
    rows = re.findall(r"^\| \d+ \| \[`([^`]+)`\]|^\| \d+ \| `([^`]+)` \(new\)", page, re.MULTILINE)
    listed = [known or new for known, new in rows]

    assert listed == list(dict.fromkeys(change.file for change in changes(page)))


def test_the_index_counts_the_files_of_every_page():
    counted = re.findall(r"\]\((add-[\w-]+)\.md\) \| (\d+) \|", INDEX)

    assert {name: int(files) for name, files in counted} == {
        name: len({change.file for change in changes(page_of(name))}) for name in NAMES
    }
