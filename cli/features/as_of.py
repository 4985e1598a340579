"""`candor features as-of`: an entity's features at past moments, computed from the archive."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339, parse_rfc3339
from candor.contracts import Event
from candor.features.units import view_units
from candor.features.views import FeatureView
from candor.store.erasures import Erasures
from candor.units import quantity
from cli.features.versions import serving_version
from cli.options import Moment, common, token_of
from cli.output import one_line, print_json
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import EVENTS_PREFIX, ArchiveDamaged, accepted_events, read_envelopes
from history.asof.point_in_time import FeatureTable, Knowledge, features_of
from lender import ACCEPTANCE, DEFINITIONS

KNOWLEDGE: Final[Mapping[str, Knowledge]] = {"at-moment": "at_moment", "ever": "ever"}


class PointInTimeQuery(NamedTuple):
    """Entity token and the moment (ms UTC) of its features."""

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
    help="Moment of the values: RFC 3339, or 24h ago. May be given more than once.",
)
@click.option(
    "--questions",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File of queries instead, each a token and a moment (RFC 3339): CSV with these two columns, or JSON Lines.",
)
@click.option(
    "--knowledge",
    type=click.Choice(list(KNOWLEDGE)),
    default="at-moment",
    show_default=True,
    help="Count what was known at the moment, or also what became known later.",
)
@click.option("--version", help="Version of the view. Default: the one that serves.")
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
    """Print the features of VIEW that ENTITY, a token (- prompts for it), had at past moments.

    They are computed from the archive, as far back as it reaches; events of the last minutes may be missing.

    `at-moment` counts what was known then: a live event from its arrival at the bus, loaded history from its own
    moment or from the moment it states as known. `ever` counts each event from its own moment.
    """
    served = serving_version(stage, view, version)
    with Progress() as progress, one_line(ArchiveDamaged):
        queries = _queries(entity, moments, path)
        events = list(_events(stage, served, {query.token for query in queries}, progress))
        table = features_at(served, events, queries, KNOWLEDGE[knowledge])
    result = to_json(served, queries, table, knowledge, named=path is not None)
    if as_json:
        print_json(result)
    else:
        _print(result, view_units(served))


def _queries(entity: str | None, moments: Sequence[int], path: Path | None) -> list[PointInTimeQuery]:
    """Queries from the options. Raises UsageError, or ClickException for a file that cannot be read."""
    if path is not None and entity is None and not moments:
        return read_queries(path)
    if path is not None or entity is None or not moments:
        raise click.UsageError("give either ENTITY and --at, or --questions")
    token = token_of(entity)
    return [PointInTimeQuery(token, moment) for moment in moments]


def read_queries(path: Path) -> list[PointInTimeQuery]:
    """Queries of a file. Raises ClickException, which names the query's number and never its content."""
    queries: list[PointInTimeQuery] = []
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines) if path.suffix == ".csv" else map(json.loads, lines)
            queries.extend(map(_query, rows))
    except (KeyError, TypeError, ValueError, csv.Error):
        where = f"{path.name}, question {len(queries) + 1}"
        raise click.ClickException(f"{where}: give a token and a moment as 2026-11-24T08:00:00Z") from None
    return queries


def _query(row: Mapping[str, Any]) -> PointInTimeQuery:
    token, moment = row["token"], row["moment"]
    if not (isinstance(token, str) and token and isinstance(moment, str)):
        raise TypeError
    return PointInTimeQuery(token, parse_rfc3339(moment))


def _events(stage: Stage, view: FeatureView, tokens: set[str], progress: Progress) -> Iterator[Event]:
    """Archived events of these entities for the view, in order of arrival, without erased ones."""
    tombstones = Erasures(stage.output("RegistryTableName")).tombstones()
    envelopes = progress.each("reading events", read_envelopes(stage.archive(EVENTS_PREFIX)))
    for event in accepted_events(envelopes, DEFINITIONS):
        if event.type in view.event_types and event.entities.get(view.entity.name) in tokens:
            remaining = tombstones.honoured(event)
            if remaining is not None:
                yield remaining


def features_at(
    view: FeatureView, events: Sequence[Event], queries: Sequence[PointInTimeQuery], knowledge: Knowledge
) -> FeatureTable:
    """The view's features for each query, a row each."""
    values = features_of(view, DEFINITIONS, events, queries, knowledge=knowledge)
    names = tuple(feature.name for feature in view.features)
    return FeatureTable(tuple(str(row) for row in range(len(queries))), names, values)


def to_json(
    view: FeatureView,
    queries: Sequence[PointInTimeQuery],
    table: FeatureTable,
    knowledge: str,
    *,
    named: bool,
) -> dict[str, Any]:
    """JSON form; a missing value is null. Rows carry their token if the queries came from a file (`named`)."""
    return {
        "view": view.name,
        "version": view.version,
        "knowledge": knowledge,
        "rows": [
            ({"token": query.token} if named else {})
            | {"at": format_rfc3339(query.moment), "features": _features(table, row)}
            for row, query in enumerate(queries)
        ],
    }


def _features(table: FeatureTable, row: int) -> dict[str, float | None]:
    values = table.vector(row)
    return {
        name: None if math.isnan(value) else value for name, value in zip(table.names, values, strict=True)
    }


def _print(result: Mapping[str, Any], units: Mapping[str, str]) -> None:
    console = Console()
    console.print(f"{result['view']}@{result['version']}, knowledge: {result['knowledge']}")
    for token, rows in groupby(result["rows"], key=lambda row: row.get("token")):
        console.print(_table(token, list(rows), units))


def _table(token: str | None, rows: Sequence[Mapping[str, Any]], units: Mapping[str, str]) -> Table:
    """Table of one entity's features, a column for each moment."""
    table = Table(title=token)
    for heading in ("feature", *(row["at"] for row in rows)):
        table.add_column(heading, overflow="fold")
    for name in rows[0]["features"]:
        values = (row["features"][name] for row in rows)
        table.add_row(name, *(quantity(value, units[name], ACCEPTANCE.currencies) for value in values))
    return table
