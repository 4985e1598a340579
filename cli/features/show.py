"""`candor features show`: an entity's stored items and feature values."""

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
from candor.features.units import view_units
from candor.features.vector import Read, view_values
from candor.features.views import FeatureView
from candor.units import quantity
from cli.features.versions import serving_version
from cli.options import Moment, common, token_of
from cli.output import print_json, text_of
from cli.stage import Stage
from lender import ACCEPTANCE

NS_PER_MS = 1_000_000


@click.command("show")
@click.argument("view")
@click.argument("entity")
@click.option("--at", type=Moment(), help="Moment of the values: RFC 3339, or 24h ago. Default: now.")
@click.option("--version", help="Version of the view. Default: the one that serves.")
@common
def show_command(
    view: str, entity: str, at: int | None, version: str | None, stage: Stage, *, as_json: bool
) -> None:
    """Print the items of ENTITY, a token (- prompts for it), in VIEW, and its features at a moment.

    The newest 32 events are kept raw. A moment before those cannot be answered exactly: the state is then
    `unavailable`, and `candor features as-of` answers from the archive.
    """
    served = serving_version(stage, view, version)
    q = SystemClock().now_ms() if at is None else at
    reads = stage.store(served).load(served.item_keys(token_of(entity))).values()
    summary = to_json(served, list(reads), q)
    if as_json:
        print_json(summary)
    else:
        _print(summary, view_units(served))


def to_json(view: FeatureView, reads: Iterable[Read], q: int) -> dict[str, Any]:
    """JSON form of an entity's items and its feature values at `q` (ms UTC); a missing value is null."""
    read_items = list(reads)
    state, values = view_values(view, read_items, q)
    names = [feature.name for feature in view.features]
    return {
        "view": view.name,
        "version": view.version,
        "at": format_rfc3339(q),
        "state": state,
        "items": [_item(view, read) for read in read_items],
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


def _print(summary: Mapping[str, Any], units: Mapping[str, str]) -> None:
    console = Console()
    console.print(f"{summary['view']}@{summary['version']} at {summary['at']}: {summary['state']}")
    for item in summary["items"]:
        table = Table(show_header=False)
        for name, value in item.items():
            table.add_row(name.replace("_", " "), text_of(value))
        console.print(table)
    table = Table("feature", "value")
    for name, value in summary["features"].items():
        table.add_row(name, quantity(value, units[name], ACCEPTANCE.currencies))
    console.print(table)
