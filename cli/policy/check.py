"""`candor policy check`: the checks of the build on a table."""

from __future__ import annotations

from pathlib import Path

import click

from candor.policy import Policy
from cli.decision_tables import TABLE_FILE, faults_of, read_reasons, read_table
from cli.options import common
from cli.output import print_json, print_pairs
from cli.stage import Stage
from lender import REASONS
from lender import policy as lender_policy


@click.command("check")
@click.option("--policy", "file", type=TABLE_FILE, help="Table to check. Default: the code's.")
@click.option(
    "--reasons", "reasons_file", type=TABLE_FILE, help="Reasons of the hard rules. Default: the code's."
)
@common
def check_command(
    file: Path | None,
    reasons_file: Path | None,
    stage: Stage,  # noqa: ARG001 - as all commands
    *,
    as_json: bool,
) -> None:
    """Check a table as the build does; each fault names its row, column and remedy.

    Among the faults are cells under no column, rows that never fire, unknown names, outcomes without a reason,
    currencies without a limit, and tables that approve or decline everyone. Exit code 1 if there is any.
    """
    table = read_table(file) if file else lender_policy()
    reasons = read_reasons(reasons_file) if reasons_file else REASONS
    table_faults = faults_of(table, reasons)
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
