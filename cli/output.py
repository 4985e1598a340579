"""Output of every command: JSON, tables, expected errors on one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """Print a table of names and values; the members of a mapping, or of a list's mappings, have rows of their own."""
    table = Table("", "", show_header=False)
    for name, value in _rows("", pairs):
        table.add_row(name, text_of(value))
    Console().print(table)


def _rows(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Rows of a value, its members named after it: `request.items.1.sku`."""
    if isinstance(value, Mapping) and value:
        members: Iterable[tuple[Any, Any]] = value.items()
    elif _is_list(value) and any(isinstance(member, Mapping) for member in value):
        members = enumerate(value, 1)
    else:
        yield name, value
        return
    for key, member in members:
        yield from _rows(f"{name}.{key}" if name else str(key), member)


def text_of(value: Any) -> str:
    """Text of a value for people: none, yes, no, and the members of a list joined by commas."""
    if value is None or value in ("", {}) or (_is_list(value) and not value):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(text_of, value)) if _is_list(value) else str(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def print_rows(results: Sequence[dict[str, Any]], name: str, *, as_json: bool) -> None:
    """Print rows as a table, or as JSON under `name`."""
    if as_json:
        print_json({name: results})
        return
    table = Table(*results[0])
    for row in results:
        table.add_row(*map(text_of, row.values()))
    Console().print(table)
