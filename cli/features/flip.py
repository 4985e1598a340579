"""`candor features flip`: a view served in another version."""

from __future__ import annotations

import getpass

import click

from candor.clock import SystemClock
from candor.errors import DefinitionError
from cli.features.versions import print_versions
from cli.options import common
from cli.stage import Stage
from lender import DEFINITIONS


@click.command("flip")
@click.argument("view")
@click.option("--to", "version", required=True, help="The version, as `candor features serving` prints it.")
@click.option("--by", default=getpass.getuser, help="Who says so; kept with the flip. Default: your user.")
@common
def flip_command(view: str, version: str, by: str, stage: Stage, *, as_json: bool) -> None:
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
    print_versions(registry.flip(view, wanted, by=by, at=SystemClock().now_ms()), as_json=as_json)


def _names() -> list[str]:
    return [view.name for view in DEFINITIONS.views]
