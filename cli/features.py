"""`candor features …`: which version of a view serves, and how that changes."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from candor.clock import SystemClock
from candor.errors import DefinitionError
from candor.store.registry import Pointer, Registry
from cli.stage import Stage
from lender import DEFINITIONS

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def features() -> None:
    """Versions of feature views, and which of them serve."""


def common(command: F) -> F:
    """Options of every command."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)
    return click.option("--stage", default="dev", show_default=True, help="The deployed stage.")(command)


@features.command()
@common
def serving(stage: str, as_json: bool) -> None:  # noqa: FBT001 - click passes its options by name
    """Print every view that is kept, its versions, and which of them serves."""
    _print(_registry(stage).pointer(), as_json=as_json)


@features.command()
@click.argument("view")
@click.option("--to", "version", required=True, help="The version, as `candor features serving` prints it.")
@click.option("--by", default=getpass.getuser, help="Who says so; kept with the flip. Default: your user.")
@common
def flip(view: str, version: str, by: str, stage: str, as_json: bool) -> None:  # noqa: FBT001 - as above
    """Serve VIEW in another version that is kept: one write, from the next request on.

    The features of both versions have the same names, for the model must not notice. The versions must be in the code
    that is deployed, and the new one filled: an empty one would tell that nothing ever happened.
    """
    declared = next((one.version for one in DEFINITIONS.views if one.name == view), None)
    if declared is None:
        raise DefinitionError(f'no view is named "{view}"; there are {", ".join(_names())}')
    DEFINITIONS.serving({view: version})  # refuses what cannot serve
    registry = _registry(stage)
    wanted = None if version == declared else version
    _print(registry.flip(view, wanted, by=by, at=SystemClock().now_ms()), as_json=as_json)


@features.command()
@click.argument("view")
@common
def rollback(view: str, stage: str, as_json: bool) -> None:  # noqa: FBT001 - as above
    """Take the latest flip of VIEW back: one write, from the next request on."""
    _print(_registry(stage).roll_back(view), as_json=as_json)


def _registry(stage: str) -> Registry:
    return Registry(Stage(stage).output("RegistryTableName"))


def _names() -> list[str]:
    return [view.name for view in DEFINITIONS.views]


def _print(pointer: Pointer, *, as_json: bool) -> None:
    declared = {view.name: view.version for view in DEFINITIONS.views}
    rows = [
        {
            "view": view.name,
            "version": view.version,
            "serves": pointer.views.get(view.name, declared.get(view.name)) == view.version,
        }
        for view in DEFINITIONS.kept
    ]
    if as_json:
        click.echo(json.dumps({"bundle": pointer.bundle, "views": rows}, indent=1))
        return
    table = Table("view", "version", "")
    for row in rows:
        table.add_row(str(row["view"]), str(row["version"]), "serves" if row["serves"] else "stands by")
    Console().print(table)
