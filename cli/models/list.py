"""`candor models list`: all registered bundles."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from cli.bundles import SHORT
from cli.figures import VALIDATION
from cli.models.registrations import proposal_text, registration_json
from cli.options import common
from cli.output import print_json
from cli.stage import Stage


@click.command("list")
@common
def list_command(stage: Stage, *, as_json: bool) -> None:
    """Print every bundle, the newest first: state, run, validation AUC and notes."""
    bundles = [registration_json(registration) for registration in stage.registry.registrations()]
    if as_json:
        print_json({"bundles": bundles})
        return
    table = Table("bundle", "state", "run", "made", "AUC", "note")
    for listing in bundles:
        note = listing["refused"][0] if listing["refused"] else proposal_text(listing["proposal"])
        auc = "none" if listing["metrics"].get("auc") is None else f"{listing['metrics']['auc']:.4f}"
        table.add_row(
            listing["bundle"][:SHORT],
            listing["state"],
            listing["run"],
            f"{listing['created_at'][:16]}Z",
            auc,
            note,
        )
    Console().print(table)
    click.echo(f"AUC: {VALIDATION}")
