"""Code, output and imports of docs/how-to/use-as-a-library.md, and the distributions of `pip install .[offline]`."""

import contextlib
import importlib
import inspect
import io
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "use-as-a-library.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|text)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
CODE = [text for language, text in BLOCKS if language == "python"]
PUBLIC = re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES = [ROOT / folder for folder in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


def names(requirements: list[str]) -> set[str]:
    return {Requirement(requirement).name for requirement in requirements}


def with_dependencies(distributions: set[str]) -> set[str]:
    """Return distributions and their requirements in this environment."""
    known: set[str] = set()
    waiting = list(distributions)
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        needed = (Requirement(text) for text in metadata.requires(name) or ())
        waiting += [
            requirement.name
            for requirement in needed
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
    return known


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
"""Prologue of a program in which the modules of `absent` seem not to be installed."""


def loaded_by(blocks: list[str], installed: set[str]) -> set[str]:
    """Return distributions that these blocks import, in a fresh interpreter with only the wheel's and `installed`."""
    owners = metadata.packages_distributions()
    absent = {module for module, distributions in owners.items() if installed.isdisjoint(distributions)}
    program = [WITHOUT.format(absent=absent), *blocks, "print(*sys.modules, file=sys.stderr)"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(str(path.parent) for path in PACKAGES),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = {name.partition(".")[0] for name in done.stderr.split()}
    return {distribution for module in modules for distribution in owners.get(module, ())}


def test_the_page_prints_what_it_says():
    namespace, printed, stated = {}, [], []
    for language, text in BLOCKS:
        if language == "text":
            stated[-1] = text
            continue
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(text, "use-as-a-library.md", "exec"), namespace)
        printed.append(output.getvalue().strip())
        stated.append("")

    assert printed == [text.strip() for text in stated]
    assert sum(bool(text) for text in printed) == 3


def test_the_page_imports_what_it_calls_public():
    first_party = {path.name for path in PACKAGES}
    imported = re.findall(r"^(?:from|import) ([\w.]+)", "\n".join(CODE), re.MULTILINE)

    assert {name for name in imported if name.partition(".")[0] in first_party} <= set(PUBLIC)


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_public_has_docstrings(module):
    public = importlib.import_module(module)
    own = [name for name, member in vars(public).items() if getattr(member, "__module__", None) == module]
    declared = [getattr(public, name) for name in getattr(public, "__all__", own) if not name.startswith("_")]
    kinds = [member for member in declared if inspect.isclass(member) or inspect.isfunction(member)]

    assert public.__doc__
    assert len(kinds) > 1
    assert [kind.__name__ for kind in kinds if not vars(kind).get("__doc__", kind.__doc__)] == []


def test_the_extra_brings_what_the_page_imports_and_nothing_more():
    base, offline = names(PROJECT["dependencies"]), names(PROJECT["optional-dependencies"]["offline"])
    online_only = [text for text in CODE if "historical_features" not in text]

    assert len(online_only) == len(CODE) - 1
    for blocks, declared in ((online_only, base), (CODE, base | offline)):
        installed = with_dependencies(declared)
        assert loaded_by(blocks, installed) == installed


def test_the_ranges_hold_the_locked_versions():
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    required = [
        *PROJECT["dependencies"],
        *(requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra),
    ]
    for requirement in map(Requirement, required):
        locked = re.findall(rf"^{re.escape(requirement.name)}==([^ ;]+)", lock, re.MULTILINE)

        assert locked, requirement.name
        assert [version for version in locked if version not in requirement.specifier] == []


def test_the_wheel_has_typed_packages_and_the_licence():
    assert [path.name for path in PACKAGES] == ["candor", "history"]
    assert [path.name for path in PACKAGES if not (path / "py.typed").is_file()] == []
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert [
        name for name in [PROJECT["readme"], *PROJECT["license-files"]] if not (ROOT / name).is_file()
    ] == []
