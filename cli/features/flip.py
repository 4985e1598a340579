"""`candor features flip`: switch a view's serving version."""

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
@click.option("--by", default=getpass.getuser, help="Your name, kept with the flip. Default: your user.")
@common
def flip_command(view: str, version: str, by: str, stage: Stage, *, as_json: bool) -> None:
    """Serve another kept version of VIEW: one write, in effect from the next request.

    Both versions must have the same feature names, since the model does not change. The new version must be in the
    deployed code and backfilled: an empty one would answer that nothing ever happened.
    """
    declared = next(
        (declaration.version for declaration in DEFINITIONS.views if declaration.name == view), None
    )
    if declared is None:
        raise DefinitionError(f'no view is named "{view}"; there are {", ".join(_names())}')
    DEFINITIONS.serving({view: version})  # refuses what cannot serve
    registry = stage.registry
    override = None if version == declared else version
    print_versions(registry.switch_version(view, override, by=by, at=SystemClock().now_ms()), as_json=as_json)


def _names() -> list[str]:
    return [view.name for view in DEFINITIONS.views]
