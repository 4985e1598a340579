"""Archived decisions, selected by id or by the moment they were made."""

from __future__ import annotations

from collections.abc import Collection

import click

from candor.decision import Decision
from cli.progress import Progress
from cli.stage import Stage
from history.archive.decisions import DECISIONS_PREFIX, made_at, read_decisions


def select_decisions(
    stage: Stage,
    progress: Progress,
    ids: Collection[str] = (),
    since: int | None = None,
    until: int | None = None,
    last: int | None = None,
) -> list[Decision]:
    """Archived decisions by id or by the interval they were made in (ms UTC), oldest first.

    Raises ClickException for an id that is not in the archive.
    """
    decisions = progress.each("reading decisions", read_decisions(stage.archive(DECISIONS_PREFIX)))
    matches = [
        decision
        for decision in decisions
        if (not ids or decision.id in ids)
        and (since is None or _moment(decision) >= since)
        and (until is None or _moment(decision) < until)
    ]
    missing = set(ids) - {decision.id for decision in matches}
    if missing:
        raise click.ClickException(
            f"not in the archive: {', '.join(sorted(missing))}; a decision reaches it within minutes"
        )
    matches.sort(key=_moment)
    return matches[-last:] if last else matches


def _moment(decision: Decision) -> int:
    moment = made_at(decision)
    return decision.q if moment is None else moment
