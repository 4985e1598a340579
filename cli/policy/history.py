"""`candor policy history`: policy releases, with their audit."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from cli.options import common
from cli.output import print_json
from cli.policy_releases import release_json
from cli.stage import Stage


@click.command("history")
@common
def history_command(stage: Stage, *, as_json: bool) -> None:
    """Print every policy release, the newest first, with the steps of its audit: time, state, actor and reason."""
    registry = stage.registry
    releases = [
        {
            **release_json(release),
            "steps": [
                {
                    "at": format_rfc3339(line.at),
                    "from": line.before,
                    "to": line.after,
                    "by": line.by,
                    "identity": line.identity or None,
                    "why": line.why,
                }
                for line in registry.release_history(release)
            ],
        }
        for release in registry.releases()
    ]
    if as_json:
        print_json({"releases": releases})
        return
    table = Table("release", "at", "to", "by", "why")
    for release in releases:
        for step in release["steps"]:
            table.add_row(str(release["release"]), step["at"], step["to"], step["by"], step["why"])
    Console().print(table)
