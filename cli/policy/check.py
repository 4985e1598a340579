"""`candor policy check`: the checks of the build on a table."""

from __future__ import annotations

from pathlib import Path

import click

from candor.policy import Policy
from cli.decision_tables import TABLE_FILE, faults_of, read_table
from cli.options import common
from cli.output import print_json, print_pairs
from cli.stage import Stage
from lender import policy as lender_policy


@click.command("check")
@click.option("--policy", "file", type=TABLE_FILE, help="Table to check. Default: this release's.")
@common
def check_command(file: Path | None, stage: Stage, *, as_json: bool) -> None:  # noqa: ARG001 - as all commands
    """Check a table as the build does: rows that never fire, unknown names, outcomes without a reason.

    Exit code 1 if anything is wrong.
    """
    table = read_table(file) if file else lender_policy()
    table_faults = faults_of(table)
    if as_json:
        print_json({"faults": table_faults})
    for fault in () if as_json else table_faults:
        click.echo(fault)
    if table_faults:
        raise click.ClickException(
            f"{len(table_faults)} faults: mend the table, or it will not become a bundle"
        )
    if not as_json:
        print_pairs({"policy": Policy(table).hash, "faults": "none"})
