"""`candor features backfill`: spread the archive by item, fill file by file, compare a sample."""

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
from history.rebuild.backfill import PARTITIONS, Counts, Filling, fill, gathered, spread
from history.rebuild.verification import drawn, verify
from lender import DEFINITIONS


class _OfVersion:
    """The item keys of one version, whatever the entity."""

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

    Stop it anywhere and start it again: nothing is lost or counted twice. Begin five minutes after the version was
    deployed, when the archive has all that came before. At the end entities drawn at random are compared with the offline
    engine; one that was written to in the last minutes may differ until the archive has it.
    """
    result = fill_view(stage, DEFINITIONS, DEFINITIONS.view(view, version), threads, sample)
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


def fill_view(
    stage: Stage, definitions: Definitions, view: FeatureView, threads: int, sample: int
) -> dict[str, Any]:
    """Fill every item of the version, compare a sample, note that it is done; returns what became of it."""
    name = f"{view.name}@{view.version}"
    begun = stage.registry.begin_backfill(name, SystemClock().now_ms())
    filling = Filling(view, begun.started_at, stage.retention)
    # The spool holds personal data: it is readable by this user alone, and gone at the end.
    with tempfile.TemporaryDirectory() as spool, Progress(console=Console(stderr=True)) as progress:
        files = _spread(stage, definitions, view, Path(spool), progress)
        counts = _fill(stage, definitions, filling, files, threads, progress)
        events = _drawn(files, view, sample)
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
    living = (
        Arrival(arrival.taken_at, left)
        for arrival in archived
        if (left := tombstones.honoured(arrival.event)) is not None
    )
    for number in spread(living, view, folder):
        progress.update(task, completed=number)
    progress.update(task, total=1, completed=1)
    return sorted(folder.iterdir())


def _fill(
    stage: Stage,
    definitions: Definitions,
    filling: Filling,
    files: Sequence[Path],
    threads: int,
    progress: Progress,
) -> Counts:
    logged = read_log(stage.archive(COMMITS_PREFIX), _OfVersion(filling.view))
    store, clock = stage.store(filling.view), SystemClock()

    def fill_file(path: Path) -> Counts:
        mine = gathered(path)
        commits: dict[str, list[Commit]] = {key: logged.of(key) for key in mine}
        return fill(filling, mine, commits, definitions, store, clock)

    counts = Counts()
    task = progress.add_task("filling items", total=PARTITIONS)
    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(fill_file, files):
            counts += found
            progress.advance(task)
    return counts


def _drawn(files: Iterable[Path], view: FeatureView, sample: int) -> list[Event]:
    """The events, first copies in order of arrival, of as many entities as are compared."""
    found = [arrival for path in files for mine in gathered(path).values() for arrival in mine]
    tokens = set(drawn((arrival.event for arrival in found), view, sample))
    mine = [one for one in found if one.event.entities[view.entity.name] in tokens]
    return [one.event for one in sorted(mine, key=lambda one: one.taken_at)]
