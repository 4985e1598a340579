"""Archived decisions by id or by when they were made."""

from __future__ import annotations

from collections.abc import Collection

import click

from candor.decision import Decision
from cli.progress import Shown
from cli.stage import Stage
from history.archive.decisions import DECISIONS_PREFIX, made_at, read_decisions


def chosen(
    stage: Stage,
    shown: Shown,
    ids: Collection[str] = (),
    since: int | None = None,
    until: int | None = None,
    last: int | None = None,
) -> list[Decision]:
    """Archived decisions by id or by when they were made, oldest first. Raises ClickException for an unknown id."""
    read = shown.each("reading decisions", read_decisions(stage.archive(DECISIONS_PREFIX)))
    found = [
        one
        for one in read
        if (not ids or one.id in ids)
        and (since is None or _moment(one) >= since)
        and (until is None or _moment(one) < until)
    ]
    missing = set(ids) - {one.id for one in found}
    if missing:
        raise click.ClickException(
            f"not in the archive: {', '.join(sorted(missing))}; a decision reaches it within minutes"
        )
    found.sort(key=_moment)
    return found[-last:] if last else found


def _moment(decision: Decision) -> int:
    found = made_at(decision)
    return decision.q if found is None else found
