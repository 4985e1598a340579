"""Names and docstrings keep to the vocabulary: names say what a thing is, docstrings begin with a noun or a verb."""

import ast
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

VAGUE = {"told", "asked", "one", "mine", "found", "stood"}
"""Names of anything: they say where a thing comes from, never what it is."""

EXCEPTIONS = {
    ("history/erasure/report.py", "found"): "a key of the erasure report's JSON, which is read by programs",
}

TWICE = {
    "Backfill": "the command's run over the archive, and its row in the registry's table",
    "Commit": "a write of an item: as the store gets it, and as the archive's log has it",
    "Envelope": "the bus's envelope: as it is sent, and as it is archived",
    "Meta": "pynamodb's name for the settings of a model",
    "PointInTimeQuery": "a line of the command's input, and the engine's row made of it",
    "SimulatedLender": "a population for the demo, and a few entities of a simulated world",
    "SimulatedQueue": "of the simulation, and of a benchmark that needs no scheduler",
    "StageLocations": "the buckets and tables that an erasure, and a monitoring job, work on",
    "_CommitLine": "a line of the log: as it is written, and as the index reads it",
}
"""Names of classes that stand in two modules, with the reason."""


def sources() -> list[str]:
    names = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [name for name in names if not name.startswith("benchmarks/peers/")]


SOURCES = sources() if (ROOT / ".git").exists() else []
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCES, reason="not a git checkout: nothing lists the project's files"),
]


NAMED = (ast.stmt, ast.Module, ast.arg, ast.Name, ast.Attribute, ast.alias, ast.pattern)


def names_in(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.alias(asname=str(name)):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name


def docstrings_in(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        for statement in getattr(node, "body", []):
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))) if text.strip():
                    yield text


@cache
def parsed() -> list[tuple[str, list[ast.AST]]]:
    """Each file with its nodes that bear a name or have a body."""
    trees = ((source, ast.parse((ROOT / source).read_text(encoding="utf-8"))) for source in SOURCES)
    return [(source, [node for node in ast.walk(tree) if isinstance(node, NAMED)]) for source, tree in trees]


def test_names_say_what_a_thing_is():
    vague = {
        (source, name)
        for source, nodes in parsed()
        for name in names_in(nodes)
        if name.strip("_").lower() in VAGUE
    }
    assert vague == EXCEPTIONS.keys()


def test_docstrings_begin_with_a_noun_or_a_verb():
    openings = [(source, text) for source, nodes in parsed() for text in docstrings_in(nodes)]
    assert [
        (source, text) for source, text in openings if text.split()[0].rstrip(",.:") in ("What", "Who", "How")
    ] == []


def test_a_class_name_names_one_class():
    modules = defaultdict(list)
    for source, nodes in parsed():
        if not source.startswith("tests/"):
            for node in nodes:
                if isinstance(node, ast.ClassDef):
                    modules[node.name].append(source)
    assert {name for name, where in modules.items() if len(where) > 1} == TWICE.keys()
