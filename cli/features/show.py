"""`candor features show`: what the online store holds of one entity, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from candor.clock import SystemClock, format_rfc3339
from candor.errors import CorruptItem
from candor.features.state import ViewState
from candor.features.vector import Read, view_values
from candor.features.views import FeatureView
from cli.features.versions import serving_version
from cli.options import Moment, common, token_of
from cli.output import print_json
from cli.stage import Stage

NS_PER_MS = 1_000_000


@click.command("show")
@click.argument("view")
@click.argument("entity")
@click.option("--at", type=Moment(), help="The moment of the values: RFC 3339, or 24h ago. Default: now.")
@click.option("--version", help="Another version than the one that serves.")
@common
def show_command(
    view: str, entity: str, at: int | None, version: str | None, stage: Stage, *, as_json: bool
) -> None:
    """Print what VIEW holds of ENTITY, a token (- asks for it), and its features at a moment.

    A moment before the newest events, beyond the newest 32 that are kept as they came, cannot be answered exactly: the state
    then is `unavailable`, and `candor features as-of` answers it from the archive.
    """
    chosen = serving_version(stage, view, version)
    q = SystemClock().now_ms() if at is None else at
    reads = stage.store(chosen).load(chosen.item_keys(token_of(entity))).values()
    found = told(chosen, list(reads), q)
    if as_json:
        print_json(found)
    else:
        _print(found)


def told(view: FeatureView, reads: Iterable[Read], q: int) -> dict[str, Any]:
    """JSON form of an entity's items and what they answer at `q` (ms); a missing value is null."""
    found = list(reads)
    state, values = view_values(view, found, q)
    names = [feature.name for feature in view.features]
    return {
        "view": view.name,
        "version": view.version,
        "at": format_rfc3339(q),
        "state": state,
        "items": [_item(view, read) for read in found],
        "features": {
            name: None if math.isnan(value) else value for name, value in zip(names, values, strict=True)
        },
    }


def _item(view: FeatureView, read: Read) -> dict[str, Any]:
    if read.blob is None or read.version is None:
        return {"state": read.state}
    written = {
        "state": read.state,
        "born": format_rfc3339(read.version.birth // NS_PER_MS),
        "commits": read.version.n,
        "bytes": len(read.blob),
    }
    try:
        return written | _content(ViewState.decode(view, read.blob))
    except CorruptItem as error:
        return written | {"fault": str(error)}


def _content(state: ViewState) -> dict[str, Any]:
    return {
        "watermark": None if state.born is None else format_rfc3339(state.watermark),
        "raw_events": sum(len(part.head) + len(part.singles) for part in state.segments),
        "tiles": sum(len(part.tiles) for part in state.segments),
        "waiting_voids": sum(len(part.voids.waiting) + len(part.voids.counted) for part in state.segments),
        "known_ids": len(state.ring),
        "markers": state.markers,
        "stale": state.stale,
        "healing": state.delta is not None,
        "filled": state.filled,
        "erased_at": None if state.erased_at is None else format_rfc3339(state.erased_at),
    }


def _print(found: Mapping[str, Any]) -> None:
    console = Console()
    console.print(f"{found['view']}@{found['version']} at {found['at']}: {found['state']}")
    for item in found["items"]:
        table = Table(show_header=False)
        for name, value in item.items():
            table.add_row(name.replace("_", " "), str(value))
        console.print(table)
    table = Table("feature", "value")
    for name, value in found["features"].items():
        table.add_row(name, "missing" if value is None else f"{value:.12g}")
    console.print(table)
