"""`candor features as-of`: an entity's features at past moments, computed from the archive."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339, parse_rfc3339
from candor.contracts import Event
from candor.features.views import FeatureView
from candor.store.erasures import Erasures
from cli.features.versions import serving_version
from cli.options import Moment, common, token_of
from cli.output import one_line, print_json
from cli.progress import Shown
from cli.stage import Stage
from history.archive.events import EVENTS_PREFIX, ArchiveDamaged, accepted_events, read_envelopes
from history.asof.point_in_time import FeatureTable, Knowledge, features_of
from lender import DEFINITIONS

KNOWLEDGE: Final[Mapping[str, Knowledge]] = {"at-moment": "at_moment", "ever": "ever"}


class Asked(NamedTuple):
    """An entity's token and the moment (ms UTC) of which its features are asked."""

    token: str
    moment: int


@click.command("as-of")
@click.argument("view")
@click.argument("entity", required=False)
@click.option(
    "--at",
    "moments",
    type=Moment(),
    multiple=True,
    help="A moment of the values: RFC 3339, or 24h ago. May be given more than once.",
)
@click.option(
    "--questions",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file of questions instead, each a token and a moment (RFC 3339): CSV with these two columns, or JSON Lines.",
)
@click.option(
    "--knowledge",
    type=click.Choice(list(KNOWLEDGE)),
    default="at-moment",
    show_default=True,
    help="Count what was known at the moment, or what ever became known of it.",
)
@click.option("--version", help="Another version than the one that serves.")
@common
def as_of_command(
    view: str,
    entity: str | None,
    moments: tuple[int, ...],
    path: Path | None,
    knowledge: str,
    version: str | None,
    stage: Stage,
    *,
    as_json: bool,
) -> None:
    """Print the features of VIEW that ENTITY, a token (- asks for it), had at moments of the past.

    They are computed from the archive, as far back as it reaches; what the bus took in the last minutes may not be there yet.

    At the moment counts what was known then: an event that was recorded live from when the bus took it, loaded history from
    its own moment, or from when it says that it became known. Ever counts each event from its own moment.
    """
    chosen = serving_version(stage, view, version)
    with Shown() as shown, one_line(ArchiveDamaged):
        asked = _asked(entity, moments, path)
        events = list(_events(stage, chosen, {one.token for one in asked}, shown))
        table = answer(chosen, events, asked, KNOWLEDGE[knowledge])
    found = told(chosen, asked, table, knowledge, named=path is not None)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _asked(entity: str | None, moments: Sequence[int], path: Path | None) -> list[Asked]:
    """The questions. Raises UsageError, ClickException for a file that cannot be read."""
    if path is not None and entity is None and not moments:
        return read_questions(path)
    if path is not None or entity is None or not moments:
        raise click.UsageError("give either ENTITY and --at, or --questions")
    token = token_of(entity)
    return [Asked(token, moment) for moment in moments]


def read_questions(path: Path) -> list[Asked]:
    """Questions of a file. Raises ClickException, which names the question and not what stands there."""
    found: list[Asked] = []
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines) if path.suffix == ".csv" else map(json.loads, lines)
            found.extend(map(_question, rows))
    except (KeyError, TypeError, ValueError, csv.Error):
        where = f"{path.name}, question {len(found) + 1}"
        raise click.ClickException(f"{where}: give a token and a moment as 2026-11-24T08:00:00Z") from None
    return found


def _question(row: Mapping[str, Any]) -> Asked:
    token, moment = row["token"], row["moment"]
    if not (isinstance(token, str) and token and isinstance(moment, str)):
        raise TypeError
    return Asked(token, parse_rfc3339(moment))


def _events(stage: Stage, view: FeatureView, tokens: set[str], shown: Shown) -> Iterator[Event]:
    """The archived events that the view counts of these entities, in order of arrival, without what was erased."""
    tombstones = Erasures(stage.output("RegistryTableName")).tombstones()
    envelopes = shown.each("reading events", read_envelopes(stage.archive(EVENTS_PREFIX)))
    for event in accepted_events(envelopes, DEFINITIONS):
        if event.type in view.event_types and event.entities.get(view.entity.name) in tokens:
            left = tombstones.honoured(event)
            if left is not None:
                yield left


def answer(
    view: FeatureView, events: Sequence[Event], asked: Sequence[Asked], knowledge: Knowledge
) -> FeatureTable:
    """The view's features for each question."""
    values = features_of(view, DEFINITIONS, events, asked, knowledge=knowledge)
    names = tuple(feature.name for feature in view.features)
    return FeatureTable(tuple(str(row) for row in range(len(asked))), names, values)


def told(
    view: FeatureView, asked: Sequence[Asked], table: FeatureTable, knowledge: str, *, named: bool
) -> dict[str, Any]:
    """JSON form; a missing value is null. Tokens are in it if they came from a file (`named`)."""
    return {
        "view": view.name,
        "version": view.version,
        "knowledge": knowledge,
        "rows": [
            ({"token": one.token} if named else {})
            | {"at": format_rfc3339(one.moment), "features": _features(table, row)}
            for row, one in enumerate(asked)
        ],
    }


def _features(table: FeatureTable, row: int) -> dict[str, float | None]:
    values = table.vector(row)
    return {
        name: None if math.isnan(value) else value for name, value in zip(table.names, values, strict=True)
    }


def _print(found: Mapping[str, Any]) -> None:
    console = Console()
    console.print(f"{found['view']}@{found['version']}, knowledge: {found['knowledge']}")
    for token, rows in groupby(found["rows"], key=lambda row: row.get("token")):
        console.print(_table(token, list(rows)))


def _table(token: str | None, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Features of one entity, a column a moment."""
    table = Table(title=token)
    for heading in ("feature", *(row["at"] for row in rows)):
        table.add_column(heading, overflow="fold")
    for name in rows[0]["features"]:
        table.add_row(name, *_cells(row["features"][name] for row in rows))
    return table


def _cells(values: Iterable[float | None]) -> Iterator[str]:
    return ("missing" if value is None else f"{value:.12g}" for value in values)
