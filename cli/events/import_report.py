"""Report of an import: events by type, refused ones by code, and what became of the items."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from cli.events.importer import ImportSummary
from cli.output import print_json
from history.imports.accept import RowsRead
from history.imports.fill import Filled

SHOWN: Final = 20
"""Refused events that a table names; `--json` names more."""


def report(summary: ImportSummary, *, as_json: bool) -> None:
    """Print the result of an import."""
    if as_json:
        print_json(_as_json(summary))
        return
    console = Console()
    if summary.done_before:
        console.print(f"import {summary.import_id} was done before: nothing to do")
        return
    if summary.rows_read is not None:
        _print_rows(console, summary.rows_read, summary.items)
    if summary.filled is None:
        console.print("Nothing was written.")
    else:
        _print_filled(console, summary.filled)


def _as_json(summary: ImportSummary) -> dict[str, Any]:
    rows_read, filled = summary.rows_read, summary.filled
    return {
        "import": summary.import_id,
        "done_before": summary.done_before,
        "written": filled is not None,
        "read": None
        if rows_read is None
        else {
            "events": dict(rows_read.accepted),
            "already_archived": rows_read.archived,
            "first": _moment(rows_read.first),
            "last": _moment(rows_read.last),
            "refused": dict(rows_read.refused),
            "refusals": [msgspec.to_builtins(refusal) for refusal in rows_read.refusals],
        },
        "items": summary.items,
        "filled": None if filled is None else {**_counts(filled), "failures": dict(filled.failures)},
    }


def _counts(filled: Filled) -> dict[str, int]:
    return {
        "items": filled.items,
        "commits": filled.commits,
        "applied": filled.applied,
        "known_before": filled.known,
        "too_late": filled.too_late,
        "stale": len(filled.stale),
    }


def _print_rows(console: Console, rows_read: RowsRead, items: int) -> None:
    table = Table("events", "number")
    for name, number in sorted(rows_read.accepted.items()):
        table.add_row(name, f"{number:,}")
    if rows_read.archived:
        table.add_row("in the archive already", f"{rows_read.archived:,}")
    for code, number in sorted(rows_read.refused.items()):
        table.add_row(f"refused: {code}", f"{number:,}")
    console.print(table)
    if rows_read.first is not None:
        console.print(f"from {_moment(rows_read.first)} to {_moment(rows_read.last)}, in {items:,} items")
    if rows_read.refusals:
        _print_refusals(console, rows_read)


def _print_refusals(console: Console, rows_read: RowsRead) -> None:
    table = Table("refused event", "type", "code", "field", "why")
    for refusal in rows_read.refusals[:SHOWN]:
        table.add_row(*(value or "" for value in msgspec.structs.astuple(refusal)))
    console.print(table)
    if rows_read.refused.total() > SHOWN:
        console.print(
            f"and {rows_read.refused.total() - SHOWN:,} more; --json lists the first {len(rows_read.refusals):,}"
        )


def _print_filled(console: Console, filled: Filled) -> None:
    table = Table("written", "number")
    for name, number in _counts(filled).items():
        table.add_row(name.replace("_", " "), f"{number:,}")
    for cause, number in filled.failures.items():
        table.add_row(f"not written: {cause}", f"{number:,}")
    console.print(table)


def _moment(at: int | None) -> str | None:
    return None if at is None else format_rfc3339(at)
