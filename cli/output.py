"""Output of every command: JSON, tables, expected errors on one line."""

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
    """Context manager: errors of these kinds become one line on the terminal (ClickException)."""
    try:
        yield
    except kinds as error:
        raise click.ClickException(str(error)) from error


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object. Raises ValueError for NaN, which JSON does not have."""
    click.echo(json.dumps(values, indent=1, allow_nan=False))


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print a table of names and values."""
    table = Table("", "", show_header=False)
    for name, value in pairs.items():
        table.add_row(name, str(value))
    Console().print(table)


def print_rows(results: Sequence[dict[str, Any]], name: str, *, as_json: bool) -> None:
    """Print rows as a table, or as JSON under `name`."""
    if as_json:
        print_json({name: results})
        return
    table = Table(*results[0])
    for row in results:
        table.add_row(*map(str, row.values()))
    Console().print(table)
