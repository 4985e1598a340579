"""`candor models history`: every step of bundles' lives."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from candor.registry.lifecycle import Transition
from cli.bundles import SHORT, named_bundle
from cli.options import common
from cli.output import print_json
from cli.stage import Stage


@click.command("history")
@click.argument("bundle", required=False)
@common
def history_command(bundle: str | None, stage: Stage, *, as_json: bool) -> None:
    """Print every step of BUNDLE's life, or of every bundle's: when, from what to what, by whom and why."""
    registry = stage.registry
    shas = [named_bundle(stage, bundle)] if bundle else [one.bundle for one in registry.registrations()]
    lines = sorted((line for sha in shas for line in registry.history(sha)), key=lambda line: line.at)
    found = [_step(line) for line in lines]
    if as_json:
        print_json({"steps": found})
        return
    table = Table("at", "bundle", "from", "to", "by", "why")
    for one in found:
        before = one["from"] or "-"
        table.add_row(one["at"], one["bundle"][:SHORT], before, one["to"], one["by"], one["why"])
    Console().print(table)


def _step(line: Transition) -> dict[str, Any]:
    return {
        "at": format_rfc3339(line.at),
        "bundle": line.bundle,
        "from": line.before,
        "to": line.after,
        "by": line.by,
        "why": line.why,
        "identity": line.identity or None,
    }
