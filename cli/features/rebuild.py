"""`candor features rebuild`: items computed anew from the archive, those of one entity or all that are stale."""

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
from cli.options import common, token_of, views_named
from cli.output import one_line, print_json, print_pairs
from cli.progress import Shown
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
"""How often and how long `--wait` looks whether the archive has what the items have: it takes minutes."""

Item = tuple[FeatureView, str]
"""A view and the key of one item of it."""


@click.command("rebuild")
@click.argument("view")
@click.option("--entity", help="The token of one entity; - asks for it.")
@click.option("--pending", is_flag=True, help="All items that a void left stale, or that cannot be decoded.")
@click.option(
    "--wait", is_flag=True, help="Wait until the archive has what the items have, up to 15 minutes."
)
@common
def rebuild_command(
    view: str, entity: str | None, stage: Stage, *, pending: bool, wait: bool, as_json: bool
) -> None:
    """Compute items of VIEW anew from the archive, in every version that is kept.

    A void of an event that was folded into a maximum cannot be taken out of it: the item is stale until it is computed
    again without. The platform does so by itself within minutes; this does it now. The updater may write meanwhile; a
    rebuild replaces exactly what it has read. Which events an item holds is told by the log of commits, which reaches the
    archive within minutes. The archive is read by its index as far as that reaches.

    Exit code 1 if an item was left as it was: the same command goes on.
    """
    if (entity is None) == (not pending):
        raise click.UsageError("give either --entity or --pending")
    versions = views_named(DEFINITIONS, view)
    with Shown() as shown, one_line(ArchiveDamaged, Vanished):
        if entity is None:
            found = [item for one in versions for item in stale_items(stage, one, shown)]
        else:
            found = _standing(stage, versions, token_of(entity))
        result = Rebuilding(stage, found, shown).run(wait=wait)
    told = {"items": len(found), "rebuilt": result.rebuilt, "left": dict(result.left)}
    if as_json:
        print_json(told)
    else:
        print_pairs({"items": len(found), "rebuilt": result.rebuilt, **result.left})
    if result.left:
        raise click.ClickException("some items are as they were: see above, then run the same command again")


def stale_items(stage: Stage, view: FeatureView, shown: Shown) -> Iterator[Item]:
    """The view's items that say of themselves that they are not exact. Reads the whole table."""
    client = boto3.client("dynamodb")
    table = stage.table(view)
    total = int(client.describe_table(TableName=table)["Table"].get("ItemCount", 0)) or None
    scanned = 0
    for page in client.get_paginator("scan").paginate(
        TableName=table,
        ConsistentRead=True,
        ProjectionExpression="pk, b",
        FilterExpression="begins_with(pk, :prefix) AND attribute_exists(b)",
        ExpressionAttributeValues={":prefix": {"S": f"{view.name}@{view.version}#"}},
    ):
        scanned += page["ScannedCount"]
        shown.told(f"reading {table}", scanned, total)
        for item in page["Items"]:
            if _is_stale(view, bytes(item["b"]["B"])):
                yield view, item["pk"]["S"]


def _is_stale(view: FeatureView, blob: bytes) -> bool:
    try:
        return ViewState.decode(view, blob).stale
    except CorruptItem:
        return True


def _standing(stage: Stage, versions: Sequence[FeatureView], token: str) -> list[Item]:
    """The entity's items. Raises ClickException if there is none."""
    found = [
        (view, key)
        for view in versions
        for key, read in stage.store(view).load(view.item_keys(token)).items()
        if read.state != "absent"
    ]
    if not found:
        raise click.ClickException("no item of this entity stands: nothing was applied, or it expired")
    return found


@dataclass
class Result:
    """Items that were rebuilt, and those that were left as they were, by cause."""

    rebuilt: int = 0
    left: Counter[str] = field(default_factory=Counter)


class Rebuilding:
    """Rebuilds items; what the archive does not tell yet is tried again when it has told more."""

    def __init__(self, stage: Stage, items: Sequence[Item], shown: Shown) -> None:
        self._stage, self._items, self._shown = stage, items, shown
        self._history = EntityHistory(stage.archive_index, DEFINITIONS, {key: view for view, key in items})
        self._result = Result()
        self._given_up: Counter[str] = Counter()

    def run(self, *, wait: bool) -> Result:
        """One pass, or as many as it takes."""
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
        """Try each; those for which it is worth to come back."""
        self._result.left = self._given_up.copy()
        self._history.update(lambda objects: self._shown.each("reading the archive", objects))
        waiting = []
        for view, key in items:
            try:
                store = self._stage.store(view)
                rebuild(view, key, self._history.memory, store, SystemClock(), self._stage.retention)
            except (LogUnusable, NotFillable, StoreUnavailable, CorruptItem) as cause:
                self._result.left[str(cause)] += 1
                if isinstance(cause, NotFillable) or str(cause) == CONTRADICTORY:
                    self._given_up[str(cause)] += 1
                else:
                    waiting.append((view, key))
            else:
                self._result.rebuilt += 1
                self._shown.told("rebuilding", self._result.rebuilt, len(self._items))
        return waiting
