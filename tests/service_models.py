"""Service models of botocore, parsed once per process.

Each session parses them again, and each table of pynamodb has a session of its own: 40 % of the time of a test that
creates tables and calls a command.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from botocore.loaders import JSONFileLoader, Loader


def share() -> None:
    """Make every loader of botocore remember the files that any of them has read."""
    load_file, list_services = JSONFileLoader._load_file, Loader.list_available_services
    file_loader = JSONFileLoader()

    @cache
    def loaded(path: str, opened: Callable[..., Any]) -> Any:
        return load_file(file_loader, path, opened)

    @cache
    def services(paths: tuple[str, ...], kind: str) -> list[str]:
        loader = Loader()
        loader.search_paths[:] = paths
        return list_services(loader, kind)

    JSONFileLoader._load_file = lambda _self, path, opened: loaded(path, opened)
    Loader.list_available_services = lambda self, type_name: list(
        services(tuple(self.search_paths), type_name)
    )
