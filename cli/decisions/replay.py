"""`candor decisions replay`: repeat a decision from its record and its bundle alone."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from candor.decision import Decision
from candor.policy import Policy
from cli.decision_tables import TABLE_FILE, read_table
from cli.decisions.lookup import decision_of, features_of, judge_of
from cli.options import common
from cli.output import print_json
from cli.stage import Stage
from history.replay.as_decided import compared, differing, reassess
from lender import policy as lender_policy


@click.command("replay")
@click.argument("decision_id")
@click.option(
    "--policy",
    "policy_file",
    type=TABLE_FILE,
    help="Table for a decision made without a bundle. Default: this release's.",
)
@common
def replay_command(decision_id: str, policy_file: Path | None, stage: Stage, *, as_json: bool) -> None:
    """Repeat DECISION_ID from its record and its bundle alone, and compare bit for bit.

    The versions that serve now do not matter. Exit code 1 if anything differs.
    """
    decision = decision_of(stage, decision_id)
    model = judge_of(stage, decision)
    policy = model.policy if model else fallback_of(decision, policy_file)
    features = features_of(decision, model)
    if features is None:
        raise click.ClickException(
            f"decision {decision.id} was made without a bundle by definitions {decision.definition_hash[:12]}, "
            "which this release does not keep: use the release that does"
        )
    rows = compared(decision, reassess(decision, model, policy, features), policy.hash)
    different = differing(rows)
    if as_json:
        parts = {row.name: {"decided": row.served, "replayed": row.replayed} for row in rows}
        print_json({"id": decision.id, "same": not different, "parts": parts})
    else:
        table = Table("", "decided", "replayed", "", title=decision.id)
        for row in rows:
            table.add_row(row.name, row.served, row.replayed, "differs" if row in different else "")
        Console().print(table)
    if different:
        raise click.ClickException(
            f"{', '.join(row.name for row in different)} differ: the record or the code is not what decided; "
            "compare the release"
        )


def fallback_of(decision: Decision, file: Path | None) -> Policy:
    """Table of a decision made without a bundle. Raises ClickException if its hash differs from the record's."""
    policy = Policy(read_table(file) if file else lender_policy())
    if policy.hash != decision.policy:
        raise click.ClickException(
            f"decision {decision.id} was made by policy {decision.policy[:12]}, this is {policy.hash[:12]}: "
            "give that table with --policy"
        )
    return policy
