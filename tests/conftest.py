"""Isolation of every test: no real account, no real network, deterministic examples in CI."""

import ipaddress
import os
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests import service_models
from tests.examples import SAMPLE

_DUMMY_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "POWERTOOLS_TRACE_DISABLED": "true",
}

# Before any test module is imported: some libraries read the environment only once.
for _name in [name for name in os.environ if name.startswith(("AWS_ENDPOINT_URL", "AWS_PROFILE"))]:
    del os.environ[_name]
os.environ.update(_DUMMY_ACCOUNT)
service_models.share()

settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=round(100 * SAMPLE),
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "dev", deadline=None, max_examples=round(100 * SAMPLE), suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "quick", parent=settings.get_profile("dev"), phases=[Phase.explicit, Phase.generate]
)
settings.register_profile("fast", parent=settings.get_profile("quick"), derandomize=True, database=None)
settings.register_profile("deep", parent=settings.get_profile("dev"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="all cases of the tests that otherwise take a sample"
    )


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """True if tests of many like cases go through all of them instead of a sample."""
    return bool(pytestconfig.getoption("--thorough"))


LONGEST_FIRST = ("system", "simulation", "infra")
"""Folders that run on one worker as a whole, for shared fixtures or run time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark folders named as a marker (tests/infra, tests/system); with several workers the longest run first."""
    for item in items:
        for marker in {"infra", "system"} & set(item.path.parts):
            item.add_marker(marker)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [name not in item.path.parts for name in LONGEST_FIRST])


@pytest.hookimpl(optionalhook=True)  # the environment of Spark jobs has no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers (`make test`) a file stays on one of them, and so do the folders above."""
    from xdist.scheduler import LoadScopeScheduling

    class WholeFolders(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((name for name in LONGEST_FIRST if f"/{name}/" in file), file)

    return WholeFolders(config, log)


def _stays_here(family: int, address: Any) -> bool:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:  # a name
        return bool(address[0] == "localhost")


@pytest.fixture(autouse=True)
def no_outside_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to other machines."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if not _stays_here(self.family, address):
            pytest.fail(f"a test tried to reach {address}; mock the service or serve it on 127.0.0.1")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
