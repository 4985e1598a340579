"""docs/how-to/extend/: each page's code, applied to a copy of the tree, does what the page says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "how-to" / "extend"
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
NAMES = sorted(path.stem for path in FOLDER.glob("add-*.md"))

BLOCK = re.compile(
    r"^<!-- (?P<mark>file: [^\n]*|run) -->\n(?P<fence>`{3,})(?P<language>\w+)\n(?P<text>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
PLACE = re.compile(r'file: (?P<file>[^;]+)(?:; (?P<where>end|after|before|replace)(?:: "(?P<anchor>.+)")?)?')


LISTED = re.compile(r"^\| \d+ \| (?=\[|`[^`]+` \(new\))\[?`([^`]+)`", re.MULTILINE)
GENERATED = re.compile(r"^\| \d+ \| \[`([^`]+)`\]\([^)]*\) \| \(generated\)", re.MULTILINE)


class Change(NamedTuple):
    """Text for a file: beside or instead of the line that begins with `anchor`, at its end, or as a new file."""

    file: str
    where: str | None
    anchor: str | None
    text: str


def page_of(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def changes(page: str) -> list[Change]:
    blocks = [block for block in BLOCK.finditer(page) if block["mark"] != "run"]
    places = [PLACE.fullmatch(block["mark"]) for block in blocks]
    return [
        Change(place["file"], place["where"], place["anchor"], block["text"])
        for place, block in zip(places, blocks, strict=True)
    ]


def programs(page: str) -> list[list[str]]:
    """Command lines of the page's checks: each line of a shell block, each Python block as a whole."""
    commands = []
    for block in BLOCK.finditer(page):
        if block["mark"] == "run":
            python = block["language"] == "python"
            commands += (
                [["python", "-c", block["text"]]]
                if python
                else [["bash", "-c", line] for line in block["text"].splitlines()]
            )
    return commands


def copy_tree(target: Path) -> None:
    """The files of the working tree that git knows of."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def apply(change: Change, tree: Path) -> None:
    path = tree / change.file
    if change.where is None:
        assert not path.exists(), f"{change.file} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change.text, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    start, end = lines_at(change, lines)
    lines[start:end] = [change.text]
    path.write_text("".join(lines), encoding="utf-8")


def lines_at(change: Change, lines: list[str]) -> tuple[int, int]:
    """Numbers of the lines that the change takes the place of."""
    if change.anchor is None:
        return len(lines), len(lines)
    matches = [number for number, line in enumerate(lines) if line.strip().startswith(change.anchor)]
    assert len(matches) == 1, f"{change.file}: {len(matches)} lines begin with {change.anchor!r}"
    first = matches[0] + (change.where == "after")
    return first, first + (change.where == "replace")


def run(program: list[str], tree: Path) -> None:
    libraries = ("layers/core/python", "layers/lender/python")
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(tree), *(str(tree / folder) for folder in libraries)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }
    done = subprocess.run(program, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{program}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, which no test changes."""
    tree = tmp_path_factory.mktemp("tree")
    copy_tree(tree)
    return tree


@pytest.mark.parametrize("name", NAMES)
def test_the_changes_of_the_page_fit_the_code_and_are_valid_python(name: str, copied: Path, tmp_path: Path):
    for change in changes(page_of(name)):
        if (copied / change.file).exists() and not (tmp_path / change.file).exists():
            (tmp_path / change.file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(copied / change.file, tmp_path / change.file)
        apply(change, tmp_path)
    changed = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert changed
    for file in changed:
        if file.suffix == ".py":
            compile(file.read_text(encoding="utf-8"), str(file), "exec")


@pytest.mark.deep  # each page starts pytest or a program several times
@pytest.mark.parametrize("name", NAMES)
def test_the_page_does_what_it_says(name: str, tmp_path: Path):
    page = page_of(name)
    copy_tree(tmp_path)
    for change in changes(page):
        apply(change, tmp_path)

    assert programs(page)
    for program in programs(page):
        run(program, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_lists_the_files_that_its_code_changes_in_order(name: str):
    page = page_of(name)
    listed = [file for file in LISTED.findall(page) if file not in GENERATED.findall(page)]

    assert listed == list(dict.fromkeys(change.file for change in changes(page)))


def test_the_index_counts_the_files_of_every_page():
    counted = re.findall(r"\]\((add-[\w-]+)\.md\) \| (\d+) \|", INDEX)

    assert {name: int(files) for name, files in counted} == {
        name: len(LISTED.findall(page_of(name))) for name in NAMES
    }
