"""`candor features …`: the group, and the commands on which version of a view serves."""

from __future__ import annotations

import getpass
import json

import click
from rich.console import Console
from rich.table import Table

from candor.clock import SystemClock
from candor.errors import DefinitionError
from candor.registry.pointer import Pointer
from cli.as_of import as_of_command
from cli.consistency import consistency_command
from cli.erasing import erase_command
from cli.filling import fill_view
from cli.options import common
from cli.rebuilding import rebuild_command
from cli.replaying import replay_command
from cli.showing import show_command
from cli.stage import Stage
from lender import DEFINITIONS


@click.group()
def features() -> None:
    """Feature views: which versions serve, what they hold, and whether that is right."""


for command in (
    replay_command,
    rebuild_command,
    show_command,
    as_of_command,
    consistency_command,
    erase_command,
):
    features.add_command(command)


@features.command()
@common
def serving(stage: Stage, as_json: bool) -> None:  # noqa: FBT001 - click passes its options by name
    """Print every view that is kept, its versions, and which of them serves."""
    _print(stage.registry.pointer(), as_json=as_json)


@features.command()
@click.argument("view")
@click.option("--to", "version", required=True, help="The version, as `candor features serving` prints it.")
@click.option("--by", default=getpass.getuser, help="Who says so; kept with the flip. Default: your user.")
@common
def flip(view: str, version: str, by: str, stage: Stage, as_json: bool) -> None:  # noqa: FBT001 - as above
    """Serve VIEW in another version that is kept: one write, from the next request on.

    The features of both versions have the same names, for the model must not notice. The versions must be in the code
    that is deployed, and the new one filled: an empty one would tell that nothing ever happened.
    """
    declared = next((one.version for one in DEFINITIONS.views if one.name == view), None)
    if declared is None:
        raise DefinitionError(f'no view is named "{view}"; there are {", ".join(_names())}')
    DEFINITIONS.serving({view: version})  # refuses what cannot serve
    registry = stage.registry
    wanted = None if version == declared else version
    _print(registry.switch_version(view, wanted, by=by, at=SystemClock().now_ms()), as_json=as_json)


@features.command()
@click.argument("view")
@click.option("--to", "version", required=True, help="The version to fill, as `serving` prints it.")
@click.option("--threads", default=8, show_default=True, help="Items written at a time.")
@click.option("--sample", default=100, show_default=True, help="Entities to compare with the offline engine.")
@common
def backfill(view: str, version: str, threads: int, sample: int, stage: Stage, as_json: bool) -> None:  # noqa: FBT001 - as above
    """Fill a version of VIEW from the archive while events flow.

    Stop it anywhere and start it again: nothing is lost or counted twice. Begin five minutes after the version was
    deployed, when the archive has all that came before. At the end entities drawn at random are compared with the offline
    engine; one that was written to in the last minutes may differ until the archive has it.
    """
    result = fill_view(stage, DEFINITIONS, DEFINITIONS.view(view, version), threads, sample)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        table = Table("", "")
        for name, value in result.items():
            table.add_row(name, str(value))
        Console().print(table)
    if result["failures"] or result["different"]:
        raise click.ClickException(
            "not everything is as it should be: see above, then run the same command again"
        )


@features.command()
@click.argument("view")
@common
def rollback(view: str, stage: Stage, as_json: bool) -> None:  # noqa: FBT001 - as above
    """Take the latest flip of VIEW back: one write, from the next request on."""
    _print(stage.registry.roll_back(view), as_json=as_json)


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
