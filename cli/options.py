"""Options that commands share: stage, JSON, moments, intervals, tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from candor.clock import SystemClock, parse_rfc3339
from candor.errors import DefinitionError
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from candor.features.windows import duration
from cli.stage import on_stage

F = TypeVar("F", bound=Callable[..., Any])


def common(command: F) -> F:
    """Add the options of every command: stage, local system, JSON."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
    return on_stage(as_json(command))


class Moment(click.ParamType[int]):
    """Moment in RFC 3339, or as a duration ago: 15m, 24h, 7d. Converted to ms UTC."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_rfc3339(value) if "T" in value.upper() else SystemClock().now_ms() - duration(value)
        except (ValueError, DefinitionError):
            self.fail("give a moment as 2026-11-24T08:00:00Z, or how long ago as 24h", param, ctx)


def interval(command: F) -> F:
    """Add the options that select decisions by the moment they were made (`since`, `until`), and `last`."""
    for option in (
        click.option("--last", type=click.IntRange(1), help="Only this many, the latest ones."),
        click.option("--until", type=Moment(), help="Made before this moment."),
        click.option("--since", type=Moment(), help="Made at this moment (RFC 3339, or 24h ago) or later."),
    ):
        command = option(command)
    return command


def views_named(definitions: Definitions, name: str) -> list[FeatureView]:
    """Kept versions of a view, the declared one first. Raises DefinitionError with the known names."""
    versions = [view for view in definitions.kept if view.name == name]
    if not versions:
        known = ", ".join(dict.fromkeys(view.name for view in definitions.kept))
        raise DefinitionError(f'no view is named "{name}"; there are {known}')
    return versions


def token_of(entity: str) -> str:
    """Token of the entity; prompted for if it is `-`, so that no shell history keeps it."""
    return str(click.prompt("token", hide_input=True, err=True)) if entity == "-" else entity
