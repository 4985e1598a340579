"""One running system for all tests in this folder, from its own assembly, loaded with the smallest useful lender."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.aws.dynoxide import supported
from tests.system.contents import Account, Contents
from tests.system.running import ROOT, Running, environment
from tests.system.small_lender import write_small_lender

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests without the DynamoDB engine, which survives a kill, or without /proc, which shows processes."""
    if not supported() or not Path("/proc").is_dir():
        why = "the DynamoDB engine is published for Linux on x86-64 only; without it tables are not kept"
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(pytest.mark.skip(reason=why))


@dataclass(frozen=True)
class Served:
    """A system that ran the whole demo without interruption and serves, and its contents at that moment."""

    running: Running
    contents: Contents
    data: Path
    assembly: Path

    @property
    def account(self) -> Account:
        return Account(self.running.state)


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assembly") / "cdk.out"
    given = environment(CDK_OUTDIR=str(folder), CDK_VALIDATION="false")
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_lender(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def served(assembly: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    running = Running(assembly, tmp_path_factory.mktemp("served"), DATA=str(data))
    try:
        running.until_ready()
        yield Served(running, Account(running.state).contents(), data, assembly)
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGINT)
