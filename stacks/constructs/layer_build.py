"""Building the layers' content without Docker: wheels of the target platform, unpacked into a folder."""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import importlib.util
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stacks.toolchain import ROOT

TARGET_PYTHON = (3, 13)
RECIPE = "2"
"""Version of the build; increase it when this file builds other content from the same requirements."""

HISTORY = (
    "__init__.py",
    "archive/__init__.py",
    "archive/commits.py",
    "archive/events.py",
    "archive/items.py",
    "archive/objects.py",
    "healing",
    "index",
    "rebuild/__init__.py",
    "rebuild/backfill.py",
    "rebuild/rebuild.py",
    "rebuild/recompute.py",
    "replay/__init__.py",
    "replay/as_served.py",
)
"""The part of `history` in the functions' layer: it needs the runtime layer's libraries only (by import rules)."""

_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_CACHE = ROOT / ".cache" / "layers"
_UNSHIPPED = ("__pycache__", "*.pyc", "tests", "test", "examples", "bin", "RECORD", "*.pyi", "py.typed")


class LayerBuildError(RuntimeError):
    """A layer cannot be built; the message is one line that names the remedy."""


def ships_bytecode() -> bool:
    """Whether this Python has the functions' version, so that its bytecode loads there."""
    return sys.version_info[:2] == TARGET_PYTHON


def requirements_hash(requirements: Path) -> str:
    """Hash of a built layer: equal for equal pins, build version and target."""
    parts = (RECIPE, *_PLATFORMS, str(TARGET_PYTHON), str(ships_bytecode()), requirements.read_text("utf-8"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def source_hash(folder: Path, parts: Sequence[str] = ("",)) -> str:
    """Hash of our own code in `folder`, or in these parts of it, without bytecode."""
    digest = hashlib.sha256(f"{RECIPE} {ships_bytecode()}".encode())
    files = (path for part in parts for path in [folder / part, *(folder / part).rglob("*")])
    for path in sorted(files):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"\n{path.relative_to(folder).as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def runtime_layer(requirements: Path) -> Path:
    """A folder whose `python/` holds every wheel of `requirements`, trimmed and compiled."""
    return _cached(requirements, _install_packages)


def lightgbm_layer(requirements: Path) -> Path:
    """A folder that holds `lib/lib_lightgbm.so` and the `lib/libgomp.so.1` it needs, and nothing else."""
    return _cached(requirements, _extract_engine)


def copy_source(source: Path, target: Path) -> None:
    """Copy our own code from `source` into the existing folder `target`, and compile it."""
    _copy_tree(source, target)
    compile_tree(target)


def copy_package(source: Path, parts: Sequence[str], target: Path) -> None:
    """Copy these files and folders of a package into a layer in the folder `target`, as `python/<package>`."""
    package = target / "python" / source.name
    package.mkdir(parents=True)
    for part in parts:
        if (source / part).is_dir():
            _copy_tree(source / part, package / part)
        else:
            (package / part).parent.mkdir(exist_ok=True)
            shutil.copy2(source / part, package / part)
    compile_tree(target)


def _copy_tree(source: Path, target: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)


def check_imports(module: str, *layers: Path) -> None:
    """Import a module from layers in its own process, so that an import error stops the synthesis."""
    paths = os.pathsep.join(str(layer / "python") for layer in layers)
    command = [sys.executable, "-c", f"import {module}"]
    run = subprocess.run(  # noqa: S603 - this Python, and a module of ours
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise LayerBuildError(f"{module} cannot be imported: {run.stderr.strip().splitlines()[-1]}")


def compile_tree(folder: Path) -> None:
    """Compile if this Python has the target version; unchecked, because a zip changes timestamps."""
    if not ships_bytecode():
        return
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(str(folder), quiet=1, stripdir=str(folder), invalidation_mode=mode):
        raise LayerBuildError(f"{folder.name}: a module does not compile for Python 3.13, see above")


def _cached(requirements: Path, build: Callable[[Path, Path], None]) -> Path:
    """Build once per hash, also under concurrent calls; an interrupted build leaves no layer."""
    name = f"layers/{requirements.parent.name}"
    finished = _CACHE / requirements_hash(requirements)
    _CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(finished.with_suffix(".lock")):
        if finished.is_dir():
            return finished
        sys.stderr.write(f"{name}: fetching wheels for Python 3.13 on arm64\n")
        for leftover in _CACHE.glob(f"{finished.name}-building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=_CACHE, prefix=f"{finished.name}-building-") as scratch:
            target = Path(scratch, "layer")
            target.mkdir()
            build(requirements, target)
            target.rename(finished)
    return finished


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install_packages(requirements: Path, target: Path) -> None:
    packages = target / "python"
    _pip("install", "--no-compile", "--target", str(packages), requirements=requirements)
    for pattern in _UNSHIPPED:
        for path in list(packages.rglob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    compile_tree(packages)


def _extract_engine(requirements: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _pip("download", "--no-deps", "--dest", folder, requirements=requirements)
        library = target / "lib"
        library.mkdir()
        _extract(Path(folder), "lightgbm-*.whl", "lightgbm/lib/lib_lightgbm.so", library / "lib_lightgbm.so")
        # The loader looks for this name; scikit-learn's wheel has the library under a mangled one.
        _extract(Path(folder), "scikit_learn-*.whl", "scikit_learn.libs/libgomp-", library / "libgomp.so.1")


def _extract(folder: Path, wheel: str, prefix: str, target: Path) -> None:
    path = next(folder.glob(wheel), None)
    if path is None:
        raise LayerBuildError(f"layers/lightgbm: no {wheel} was downloaded; check its requirements.txt")
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.startswith(prefix)]
        if len(members) != 1:
            raise LayerBuildError(
                f"layers/lightgbm: {path.name} holds {len(members)} files {prefix}*, not one"
            )
        target.write_bytes(archive.read(members[0]))
    target.chmod(0o755)


def _pip(command: str, *arguments: str, requirements: Path) -> None:
    name = f"layers/{requirements.parent.name}"
    if importlib.util.find_spec("pip") is None:
        raise LayerBuildError(f"{name}: this Python has no pip; run: python -m ensurepip")
    platforms = [part for platform in _PLATFORMS for part in ("--platform", f"{platform}_aarch64")]
    version = ".".join(map(str, TARGET_PYTHON))
    line = [sys.executable, "-m", "pip", command, "--quiet", "--no-input", "--disable-pip-version-check"]
    line += ["--require-hashes", "--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    line += [*platforms, *arguments, "-r", str(requirements)]
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    result = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
    if result.returncode:
        raise LayerBuildError(
            f"{name}: {_cause(result.stderr)}; check the package index of pip and its network"
        )


def _cause(stderr: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return errors[-1].rstrip(".") if errors else "pip failed without a reason"
