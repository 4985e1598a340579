"""The layers: what they carry, how big they are, and how they are built."""

import os
import shutil
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from stacks.constructs import layer_build
from stacks.constructs.layer_build import LayerBuildError

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = {name: ROOT / "layers" / name / "requirements.txt" for name in ("runtime", "lightgbm")}
MB = 1_000_000


def _size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def built():
    """The real layers: from .cache, or built now."""
    return {
        "runtime": layer_build.runtime_layer(REQUIREMENTS["runtime"]),
        "lightgbm": layer_build.lightgbm_layer(REQUIREMENTS["lightgbm"]),
    }


def _machine(library):
    """The ELF header's machine: 183 is arm64."""
    header = library.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    return int.from_bytes(header[18:20], "little")


def test_the_engine_is_two_arm64_libraries_and_nothing_else(built):
    files = {str(path.relative_to(built["lightgbm"])): path for path in built["lightgbm"].rglob("*.*")}
    assert set(files) == {"lib/lib_lightgbm.so", "lib/libgomp.so.1"}
    assert {_machine(path) for path in files.values()} == {183}
    assert _size(built["lightgbm"]) <= 15 * MB


def test_all_layers_together_leave_room_in_a_function(built, tmp_path):
    for name in ("core", "lender"):
        layer_build.copy_source(ROOT / "layers" / name, _made(tmp_path / name))
    layer_build.copy_package(ROOT / "history", layer_build.HISTORY, _made(tmp_path / "history"))
    assert sum(map(_size, built.values())) + _size(tmp_path) <= 120 * MB


def test_the_runtime_layer_carries_what_functions_import(built):
    packages = built["runtime"] / "python"
    for name in ("aws_lambda_powertools", "boto3", "botocore", "pynamodb", "zen", "msgspec"):
        assert (packages / name / "__init__.py").is_file()
    libraries = list(packages.rglob("*.so"))
    assert libraries
    assert {_machine(path) for path in libraries} == {183}
    assert not list(packages.rglob("tests"))


@pytest.mark.skipif(not layer_build.ships_bytecode(), reason="bytecode ships when Python 3.13 builds")
def test_bytecode_is_shipped_and_never_checked_against_a_timestamp(built):
    module = built["runtime"] / "python" / "pynamodb" / "__pycache__" / "models.cpython-313.pyc"
    assert module.read_bytes()[4:8] == (0b01).to_bytes(4, "little")


def _made(folder):
    folder.mkdir(parents=True)
    return folder


def test_stray_bytecode_changes_neither_hash_nor_copy(tmp_path):
    source = _made(tmp_path / "source" / "python")
    (source / "module.py").write_text("X = 1\n")
    before = layer_build.source_hash(tmp_path / "source")
    stray = _made(source / "__pycache__") / "stray.cpython-39.pyc"
    stray.write_bytes(b"stray")
    assert layer_build.source_hash(tmp_path / "source") == before
    layer_build.copy_source(tmp_path / "source", _made(tmp_path / "copy"))
    assert not list((tmp_path / "copy").rglob("stray*"))
    (source / "module.py").write_text("X = 2\n")
    assert layer_build.source_hash(tmp_path / "source") != before


def test_a_part_of_a_package_is_copied_and_named_by_what_it_holds(tmp_path):
    source = _made(tmp_path / "package")
    for name in ("__init__.py", "light.py", "heavy.py"):
        (source / name).write_text(f"NAME = {name!r}\n")
    (_made(source / "inner") / "module.py").write_text("X = 1\n")
    parts = ("__init__.py", "inner", "light.py")
    before = layer_build.source_hash(source, parts)
    layer_build.copy_package(source, parts, _made(tmp_path / "layer"))
    copied = tmp_path / "layer" / "python" / "package"
    assert {path.relative_to(copied).as_posix() for path in copied.rglob("*.py")} == {
        "__init__.py",
        "inner/module.py",
        "light.py",
    }
    (source / "heavy.py").write_text("")
    assert layer_build.source_hash(source, parts) == before
    (source / "inner" / "module.py").write_text("X = 2\n")
    assert layer_build.source_hash(source, parts) != before


def test_a_renamed_file_changes_the_hash(tmp_path):
    (tmp_path / "a.py").write_text("")
    before = layer_build.source_hash(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert layer_build.source_hash(tmp_path) != before


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(layer_build, "_CACHE", tmp_path / "cache")
    requirements = _made(tmp_path / "some") / "requirements.txt"
    requirements.write_text("nothing==1\n")
    return requirements


def test_two_syntheses_at_once_build_a_layer_once(cache):
    builds, contents = [], []

    def build(requirements, target):
        builds.append(target)
        time.sleep(0.2)
        (target / "content").write_text("whole")

    def ask():
        contents.append((layer_build._cached(cache, build) / "content").read_text())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(builds), contents) == (1, 4 * ["whole"])


def test_an_interrupted_build_leaves_nothing_to_mistake_for_a_layer(cache):
    def build(requirements, target):
        (target / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layer_build._cached(cache, build)
    assert [path.suffix for path in layer_build._CACHE.iterdir()] == [".lock"]


def test_what_a_killed_build_left_is_swept(cache):
    _made(layer_build._CACHE / f"{layer_build.requirements_hash(cache)}-building-killed")
    finished = layer_build._cached(cache, lambda requirements, target: None)
    assert {path.suffix for path in layer_build._CACHE.iterdir() if path != finished} == {".lock"}


def test_an_index_out_of_reach_is_reported_in_one_line(cache, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    cache.write_text("nothing==1 --hash=sha256:" + 64 * "0" + "\n")
    with pytest.raises(
        LayerBuildError, match=r"^layers/some: No matching distribution.*package index[^\n]*$"
    ):
        layer_build.runtime_layer(cache)


def test_a_wheel_without_its_library_is_reported(tmp_path):
    shutil.make_archive(str(tmp_path / "lightgbm-1"), "zip", _made(tmp_path / "empty"))
    (tmp_path / "lightgbm-1.zip").rename(tmp_path / "lightgbm-1-any.whl")
    with pytest.raises(LayerBuildError, match="holds 0 files"):
        layer_build._extract(tmp_path, "lightgbm-*.whl", "lightgbm/lib", tmp_path / "out")
    with pytest.raises(LayerBuildError, match="no other"):
        layer_build._extract(tmp_path, "other-*.whl", "lib", tmp_path / "out")


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_layers_pin_what_the_projects_lock_pins(name):
    def pins(path):
        lines = path.read_text("utf-8").splitlines()
        return {
            line.split()[0].rstrip("\\").split(";")[0] for line in lines if "==" in line and line[0].isalpha()
        }

    assert pins(REQUIREMENTS[name]) <= pins(ROOT / "requirements.txt")


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_wheel_is_hashed_and_no_registry_is_named(name):
    lines = REQUIREMENTS[name].read_text("utf-8").splitlines()
    for pin, hashed in pairwise(lines):
        if "==" in pin and not pin.startswith("#"):
            assert hashed.strip().startswith("--hash=sha256:")
    assert not [line for line in lines if "://" in line]
