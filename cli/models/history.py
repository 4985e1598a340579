"""`candor models history`: transitions of one bundle or of all."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from candor.registry.lifecycle import Transition
from cli.bundles import SHORT, resolve_bundle
from cli.options import common
from cli.output import print_json
from cli.stage import Stage


@click.command("history")
@click.argument("bundle", required=False)
@common
def history_command(bundle: str | None, stage: Stage, *, as_json: bool) -> None:
    """Print the transitions of BUNDLE, or of all bundles: time, states, actor and reason."""
    registry = stage.registry
    shas = (
        [resolve_bundle(stage, bundle)]
        if bundle
        else [registration.bundle for registration in registry.registrations()]
    )
    transitions = sorted(
        (transition for sha in shas for transition in registry.history(sha)),
        key=lambda transition: transition.at,
    )
    steps = [_step(transition) for transition in transitions]
    if as_json:
        print_json({"steps": steps})
        return
    table = Table("at", "bundle", "from", "to", "by", "why")
    for step in steps:
        before = step["from"] or "-"
        table.add_row(step["at"], step["bundle"][:SHORT], before, step["to"], step["by"], step["why"])
    Console().print(table)


def _step(transition: Transition) -> dict[str, Any]:
    return {
        "at": format_rfc3339(transition.at),
        "bundle": transition.bundle,
        "from": transition.before,
        "to": transition.after,
        "by": transition.by,
        "why": transition.why,
        "identity": transition.identity or None,
    }
