"""`candor features backfill`: fill a version from the archive, then compare a sample with the offline engine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from candor.clock import SystemClock
from candor.contracts import Event
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from candor.store.erasures import Erasures
from cli.options import common
from cli.stage import Stage
from history.archive.commits import COMMITS_PREFIX, Commit, read_log
from history.archive.events import EVENTS_PREFIX, Arrival, arrivals, read_envelopes
from history.rebuild.backfill import PARTITIONS, Backfill, Counts, fill, gathered, spread
from history.rebuild.verification import drawn, verify
from lender import DEFINITIONS


class _OfVersion:
    """Set of the item keys of one version, for any entity."""

    def __init__(self, view: FeatureView) -> None:
        self._prefix = f"{view.name}@{view.version}#"

    def __contains__(self, key: object) -> bool:
        return str(key).startswith(self._prefix)


@click.command("backfill")
@click.argument("view")
@click.option("--to", "version", required=True, help="The version to fill, as `serving` prints it.")
@click.option("--threads", default=8, show_default=True, help="Items written at a time.")
@click.option("--sample", default=100, show_default=True, help="Entities to compare with the offline engine.")
@common
def backfill_command(
    view: str, version: str, threads: int, sample: int, stage: Stage, *, as_json: bool
) -> None:
    """Fill a version of VIEW from the archive while events flow.

    It may be stopped and restarted at any point: nothing is lost or counted twice. Start it five minutes after the
    version was deployed, when the archive holds all earlier events. At the end a random sample of entities is
    compared with the offline engine; an entity written to in the last minutes may differ until the archive has
    those events.
    """
    result = backfill_view(stage, DEFINITIONS, DEFINITIONS.view(view, version), threads, sample)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        table = Table("", "")
        for name, value in result.items():
            table.add_row(name, str(value))
        Console().print(table)
    if result["failures"] or result["different"]:
        raise click.ClickException(
            "not everything is as it should be: see above, then run the same command again"
        )


def backfill_view(
    stage: Stage, definitions: Definitions, view: FeatureView, threads: int, sample: int
) -> dict[str, Any]:
    """Partition the archive by item, fill each item, compare a sample, record the end; returns the summary."""
    name = f"{view.name}@{view.version}"
    begun = stage.registry.begin_backfill(name, SystemClock().now_ms())
    filling = Backfill(view, begun.started_at, stage.retention)
    # The spool holds personal data: it is readable by this user alone, and gone at the end.
    with tempfile.TemporaryDirectory() as spool, Progress(console=Console(stderr=True)) as progress:
        files = _spread(stage, definitions, view, Path(spool), progress)
        counts = _fill(stage, definitions, filling, files, threads, progress)
        events = _sample_events(files, view, sample)
    tokens = drawn(events, view, sample)
    verified = verify(definitions, view, events, tokens, stage.store(view), SystemClock().now_ms())
    if not counts.failures and not verified.different:
        stage.registry.finish_backfill(name)
    return {
        "version": name,
        "items": counts.items,
        "filled": counts.filled,
        "filled_before": counts.before,
        "events": counts.events,
        "failures": dict(counts.failures),
        "compared": verified.compared,
        "different": len(verified.different),
        "unread": verified.unread,
    }


def _spread(
    stage: Stage, definitions: Definitions, view: FeatureView, folder: Path, progress: Progress
) -> list[Path]:
    task = progress.add_task("reading the archive", total=None)
    tombstones = Erasures(stage.output("RegistryTableName")).tombstones()
    archived = arrivals(read_envelopes(stage.archive(EVENTS_PREFIX)), definitions)
    remaining = (
        Arrival(arrival.taken_at, event)
        for arrival in archived
        if (event := tombstones.honoured(arrival.event)) is not None
    )
    for number in spread(remaining, view, folder):
        progress.update(task, completed=number)
    progress.update(task, total=1, completed=1)
    return sorted(folder.iterdir())


def _fill(
    stage: Stage,
    definitions: Definitions,
    filling: Backfill,
    files: Sequence[Path],
    threads: int,
    progress: Progress,
) -> Counts:
    logged = read_log(stage.archive(COMMITS_PREFIX), _OfVersion(filling.view))
    store, clock = stage.store(filling.view), SystemClock()

    def fill_file(path: Path) -> Counts:
        by_key = gathered(path)
        commits: dict[str, list[Commit]] = {key: logged.of(key) for key in by_key}
        return fill(filling, by_key, commits, definitions, store, clock)

    counts = Counts()
    task = progress.add_task("filling items", total=PARTITIONS)
    with ThreadPoolExecutor(threads) as pool:
        for file_counts in pool.map(fill_file, files):
            counts += file_counts
            progress.advance(task)
    return counts


def _sample_events(files: Iterable[Path], view: FeatureView, sample: int) -> list[Event]:
    """Events of a random sample of entities: first copies, in order of arrival."""
    candidates = [
        arrival
        for path in files
        for arrivals_of_key in gathered(path).values()
        for arrival in arrivals_of_key
    ]
    tokens = set(drawn((arrival.event for arrival in candidates), view, sample))
    sampled = [arrival for arrival in candidates if arrival.event.entities[view.entity.name] in tokens]
    return [arrival.event for arrival in sorted(sampled, key=lambda arrival: arrival.taken_at)]
