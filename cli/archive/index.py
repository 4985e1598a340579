"""`candor archive index`: update the archive's index by entity."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

import click

from candor.clock import SystemClock
from cli.options import common
from cli.output import one_line, print_rows
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.index.bucket import Vanished
from history.index.kinds import KINDS, Kind
from history.index.refresh import refresh


@click.command("index")
@common
def index_command(stage: Stage, *, as_json: bool) -> None:
    """Bring the index by entity up to date: stale items are healed and rebuilt from it.

    A deployed stage does so every hour. Run it where no schedule runs, and once before the first deployment on a
    large archive. It may be stopped and restarted at any point.
    """
    with one_line(ArchiveDamaged, Vanished), Progress() as progress:
        results = [_refresh(stage, kind, progress) for kind in KINDS]
    print_rows(results, "index", as_json=as_json)


def _refresh(stage: Stage, kind: Kind, progress: Progress) -> dict[str, Any]:
    written = itertools.count(1)

    def go_on() -> bool:
        progress.update(f"index of {kind.name}", next(written))
        return True

    return asdict(refresh(stage.archive_bucket, kind, SystemClock().now_ms(), whole=True, go_on=go_on))
