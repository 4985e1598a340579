"""Report of an import: events by type, refused ones by code, and what became of the items."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from cli.events.importer import ImportSummary
from cli.output import print_json
from history.imports.accept import Intake
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
    if summary.intake is not None:
        _print_intake(console, summary.intake, summary.items)
    if summary.filled is None:
        console.print("Nothing was written.")
    else:
        _print_filled(console, summary.filled)


def _as_json(summary: ImportSummary) -> dict[str, Any]:
    intake, filled = summary.intake, summary.filled
    return {
        "import": summary.import_id,
        "done_before": summary.done_before,
        "written": filled is not None,
        "read": None
        if intake is None
        else {
            "events": dict(intake.accepted),
            "already_archived": intake.archived,
            "first": _moment(intake.first),
            "last": _moment(intake.last),
            "refused": dict(intake.refused),
            "refusals": [msgspec.to_builtins(refusal) for refusal in intake.refusals],
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


def _print_intake(console: Console, intake: Intake, items: int) -> None:
    table = Table("events", "number")
    for name, number in sorted(intake.accepted.items()):
        table.add_row(name, f"{number:,}")
    if intake.archived:
        table.add_row("in the archive already", f"{intake.archived:,}")
    for code, number in sorted(intake.refused.items()):
        table.add_row(f"refused: {code}", f"{number:,}")
    console.print(table)
    if intake.first is not None:
        console.print(f"from {_moment(intake.first)} to {_moment(intake.last)}, in {items:,} items")
    if intake.refusals:
        _print_refusals(console, intake)


def _print_refusals(console: Console, intake: Intake) -> None:
    table = Table("refused event", "type", "code", "field", "why")
    for refusal in intake.refusals[:SHOWN]:
        table.add_row(*(value or "" for value in msgspec.structs.astuple(refusal)))
    console.print(table)
    if intake.refused.total() > SHOWN:
        console.print(
            f"and {intake.refused.total() - SHOWN:,} more; --json lists the first {len(intake.refusals):,}"
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
