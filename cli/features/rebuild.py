"""`candor features rebuild`: recompute an entity's items, or all stale ones, from the archive."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import boto3
import click

from candor.clock import SystemClock
from candor.errors import CorruptItem, StoreUnavailable
from candor.features.state import ViewState
from candor.features.views import FeatureView
from candor.store import layout
from cli.options import common, token_of, views_named
from cli.output import one_line, print_json, print_pairs
from cli.progress import Progress
from cli.stage import Stage
from history.archive.commits import CONTRADICTORY, LogUnusable
from history.archive.events import ArchiveDamaged
from history.index.bucket import Vanished
from history.index.history import EntityHistory
from history.rebuild.rebuild import rebuild
from history.rebuild.recompute import NotFillable
from lender import DEFINITIONS

POLL_S: Final = 20.0

PATIENCE_S: Final = 900.0
"""Polling interval and timeout (s) of `--wait`: events reach the archive within minutes."""

Item = tuple[FeatureView, str]
"""View and key of an item."""


@click.command("rebuild")
@click.argument("view")
@click.option("--entity", help="Token of one entity; - prompts for it.")
@click.option("--pending", is_flag=True, help="All items that a void left stale, or that cannot be decoded.")
@click.option("--wait", is_flag=True, help="Wait until the archive covers the items, up to 15 minutes.")
@common
def rebuild_command(
    view: str, entity: str | None, stage: Stage, *, pending: bool, wait: bool, as_json: bool
) -> None:
    """Recompute items of VIEW from the archive, in every kept version.

    A voided event cannot be subtracted from a maximum: the item is stale until it is recomputed. The platform does
    so within minutes; this command does it now. The updater may write at the same time: a rebuild replaces exactly
    the version it has read. The log of commits, which reaches the archive within minutes, says which events an item
    holds. The archive is read through its index, as far as the index reaches.

    Exit code 1 if an item was left unchanged: run the same command again.
    """
    if (entity is None) == (not pending):
        raise click.UsageError("give either --entity or --pending")
    versions = views_named(DEFINITIONS, view)
    with Progress() as progress, one_line(ArchiveDamaged, Vanished):
        if entity is None:
            items = [item for declared in versions for item in stale_items(stage, declared, progress)]
        else:
            items = _stored_items(stage, versions, token_of(entity))
        result = Rebuilder(stage, items, progress).run(wait=wait)
    summary = {"items": len(items), "rebuilt": result.rebuilt, "left": dict(result.left)}
    if as_json:
        print_json(summary)
    else:
        print_pairs({"items": len(items), "rebuilt": result.rebuilt, **result.left})
    if result.left:
        raise click.ClickException("some items are as they were: see above, then run the same command again")


def stale_items(stage: Stage, view: FeatureView, progress: Progress) -> Iterator[Item]:
    """Items of the view that are marked stale or cannot be decoded. Scans the whole table."""
    client = boto3.client("dynamodb")
    table = stage.table(view)
    total = int(client.describe_table(TableName=table)["Table"].get("ItemCount", 0)) or None
    scanned = 0
    for page in client.get_paginator("scan").paginate(
        TableName=table,
        ConsistentRead=True,
        ProjectionExpression=f"{layout.KEY}, {layout.STATE}",
        FilterExpression=f"begins_with({layout.KEY}, :prefix) AND attribute_exists({layout.STATE})",
        ExpressionAttributeValues={":prefix": {"S": f"{view.name}@{view.version}#"}},
    ):
        scanned += page["ScannedCount"]
        progress.update(f"reading {table}", scanned, total)
        for item in page["Items"]:
            if _is_stale(view, bytes(item[layout.STATE]["B"])):
                yield view, item[layout.KEY]["S"]


def _is_stale(view: FeatureView, blob: bytes) -> bool:
    try:
        return ViewState.decode(view, blob).stale
    except CorruptItem:
        return True


def _stored_items(stage: Stage, versions: Sequence[FeatureView], token: str) -> list[Item]:
    """Stored items of the entity. Raises ClickException if there is none."""
    items = [
        (view, key)
        for view in versions
        for key, read in stage.store(view).load(view.item_keys(token)).items()
        if read.state != "absent"
    ]
    if not items:
        raise click.ClickException("no item of this entity is stored: nothing was applied, or it expired")
    return items


@dataclass
class RebuildResult:
    """Number of rebuilt items, and of unchanged ones by cause."""

    rebuilt: int = 0
    left: Counter[str] = field(default_factory=Counter)


class Rebuilder:
    """Rebuilder of items; those that the archive does not cover yet are retried."""

    def __init__(self, stage: Stage, items: Sequence[Item], progress: Progress) -> None:
        self._stage, self._items, self._progress = stage, items, progress
        self._history = EntityHistory(stage.archive_index, DEFINITIONS, {key: view for view, key in items})
        self._result = RebuildResult()
        self._given_up: Counter[str] = Counter()

    def run(self, *, wait: bool) -> RebuildResult:
        """Rebuild in one pass; with `wait`, repeat until none is left or the timeout is over."""
        left = list(self._items)
        ends = time.monotonic() + (PATIENCE_S if wait else 0)
        while left:
            left = self._pass(left)
            if time.monotonic() >= ends:
                break
            if left:
                time.sleep(POLL_S)
        return self._result

    def _pass(self, items: Sequence[Item]) -> list[Item]:
        """Try each item; returns those worth a retry."""
        self._result.left = self._given_up.copy()
        self._history.update(lambda objects: self._progress.each("reading the archive", objects))
        waiting = []
        for view, key in items:
            try:
                store = self._stage.store(view)
                rebuild(view, key, self._history.memory, store, SystemClock(), self._stage.retention)
            except (LogUnusable, NotFillable, StoreUnavailable, CorruptItem) as error:
                self._result.left[str(error)] += 1
                if isinstance(error, NotFillable) or str(error) == CONTRADICTORY:
                    self._given_up[str(error)] += 1
                else:
                    waiting.append((view, key))
            else:
                self._result.rebuilt += 1
                self._progress.update("rebuilding", self._result.rebuilt, len(self._items))
        return waiting
