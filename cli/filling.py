"""A view's version filled: spread the archive by item, fill file by file, compare a sample. Progress on the terminal."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from candor.clock import SystemClock
from candor.contracts import Event
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from candor.store.erasures import Erasures
from cli.stage import Stage
from history.archive.commits import COMMITS_PREFIX, Commit, read_log
from history.archive.events import EVENTS_PREFIX, Arrival, arrivals, read_envelopes
from history.rebuild.backfill import PARTITIONS, Backfill, Counts, fill, gathered, spread
from history.rebuild.verification import drawn, verify


class _OfVersion:
    """The item keys of one version, whatever the entity."""

    def __init__(self, view: FeatureView) -> None:
        self._prefix = f"{view.name}@{view.version}#"

    def __contains__(self, key: object) -> bool:
        return str(key).startswith(self._prefix)


def fill_view(
    stage: Stage, definitions: Definitions, view: FeatureView, threads: int, sample: int
) -> dict[str, Any]:
    """Fill every item of the version, compare a sample, note that it is done; returns what became of it."""
    name = f"{view.name}@{view.version}"
    begun = stage.registry.begin_backfill(name, SystemClock().now_ms())
    filling = Backfill(view, begun.started_at, stage.retention)
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
    filling: Backfill,
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
