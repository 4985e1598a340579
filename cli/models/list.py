"""`candor models list`: every bundle."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from cli.bundles import SHORT
from cli.models.registrations import listed, proposal_text
from cli.options import common
from cli.output import print_json
from cli.stage import Stage


@click.command("list")
@common
def list_command(stage: Stage, *, as_json: bool) -> None:
    """Print every bundle, the newest first: its state, its run and what it is worth."""
    found = [listed(one) for one in stage.registry.registrations()]
    if as_json:
        print_json({"bundles": found})
        return
    table = Table("bundle", "state", "run", "made", "AUC", "note")
    for one in found:
        note = one["refused"][0] if one["refused"] else proposal_text(one["proposal"])
        auc = "-" if one["metrics"].get("auc") is None else f"{one['metrics']['auc']:.4f}"
        table.add_row(one["bundle"][:SHORT], one["state"], one["run"], one["created_at"], auc, note)
    Console().print(table)
