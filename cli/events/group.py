"""`candor events …`: a lender's events."""

from __future__ import annotations

import click

from cli.events.import_events import import_command


@click.group()
def events() -> None:
    """A lender's events: bulk import of past ones."""


events.add_command(import_command)
