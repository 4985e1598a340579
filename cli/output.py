"""Output that commands share: JSON, tables, foreseeable errors on one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table


@contextmanager
def one_line(*kinds: type[Exception]) -> Iterator[None]:
    """Foreseeable errors of the rooms that know nothing of a terminal."""
    try:
        yield
    except kinds as error:
        raise click.ClickException(str(error)) from error


def print_json(found: Mapping[str, Any]) -> None:
    """One JSON object; what is no number is null, as JSON knows no NaN."""
    click.echo(json.dumps(found, indent=1, allow_nan=False))


def print_pairs(found: Mapping[str, Any]) -> None:
    """Names and values."""
    table = Table("", "", show_header=False)
    for name, value in found.items():
        table.add_row(name, str(value))
    Console().print(table)


def print_rows(results: Sequence[dict[str, Any]], name: str, *, as_json: bool) -> None:
    if as_json:
        print_json({name: results})
        return
    table = Table(*results[0])
    for row in results:
        table.add_row(*map(str, row.values()))
    Console().print(table)
