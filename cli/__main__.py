"""Entry point of `candor`. An expected failure is one line with its remedy and exit code 1, never a traceback."""

from __future__ import annotations

import sys

import click
from botocore.exceptions import BotoCoreError, ClientError

from candor.errors import CandorError
from cli.archive.group import archive
from cli.dataset.group import dataset
from cli.decisions.group import decisions
from cli.dlq.group import dlq
from cli.events.group import events
from cli.features.group import features
from cli.models.group import models
from cli.policy.group import policy
from cli.retrain import retrain_command
from cli.sql import sql_command


class Program(click.Group):
    """Root group; expected errors become one line."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (CandorError, BotoCoreError, ClientError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def candor() -> None:
    """Operate a running Candor.

    Exit codes: 0 done, 1 failed and nothing changed, 2 wrong usage, 3 drift found (models monitor).
    """


for command in (
    features,
    events,
    dataset,
    decisions,
    models,
    policy,
    archive,
    dlq,
    retrain_command,
    sql_command,
):
    candor.add_command(command)

if __name__ == "__main__":
    sys.exit(candor.main(prog_name="candor"))
