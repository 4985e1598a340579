"""Options and output that commands share: moments, tables, progress."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import click
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from candor.clock import SystemClock, parse_rfc3339
from candor.errors import DefinitionError
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from candor.features.windows import duration
from cli.stage import on_stage

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

PATIENCE_S: Final = 2.0
"""What is done sooner shows no progress."""


def common(command: F) -> F:
    """Options of every command: where it works, and JSON."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
    return on_stage(as_json(command))


class Moment(click.ParamType[int]):
    """RFC 3339 text, or how long ago: 15m, 24h, 7d. Becomes ms UTC."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_rfc3339(value) if "T" in value.upper() else SystemClock().now_ms() - duration(value)
        except (ValueError, DefinitionError):
            self.fail("give a moment as 2026-11-24T08:00:00Z, or how long ago as 24h", param, ctx)


def interval(command: F) -> F:
    """Options that choose decisions: `since` and `until`, when they were made, and `last`."""
    for option in (
        click.option("--last", type=click.IntRange(1), help="Only so many, the latest ones."),
        click.option("--until", type=Moment(), help="Made before this moment."),
        click.option("--since", type=Moment(), help="Made at this moment (RFC 3339, or 24h ago) or later."),
    ):
        command = option(command)
    return command


def views_named(definitions: Definitions, name: str) -> list[FeatureView]:
    """Every version of a view that is kept, the declared one first. Raises DefinitionError, which names what there is."""
    found = [view for view in definitions.kept if view.name == name]
    if not found:
        known = ", ".join(dict.fromkeys(view.name for view in definitions.kept))
        raise DefinitionError(f'no view is named "{name}"; there are {known}')
    return found


def token_of(entity: str) -> str:
    """The entity's token; for `-` it is asked for, so that no shell remembers it."""
    return str(click.prompt("token", hide_input=True, err=True)) if entity == "-" else entity


class Shown:
    """Progress on standard error, once there was something to wait for."""

    def __init__(self) -> None:
        self._progress = Progress(console=Console(stderr=True))
        self._due = time.monotonic() + PATIENCE_S
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def told(self, step: str, done: int, total: int | None = None) -> None:
        """So much of a step is done; `total` where it is known."""
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
        if time.monotonic() >= self._due:
            self._progress.start()

    def each(self, step: str, found: Iterable[T], total: int | None = None) -> Iterator[T]:
        """The same things, counted a hundred at a time."""
        number = 0
        for number, one in enumerate(found, 1):
            if number % 100 == 0:
                self.told(step, number, total)
            yield one
        self.told(step, number, number)


@contextmanager
def one_line(*kinds: type[Exception]) -> Iterator[None]:
    """Foreseeable errors of the rooms that know nothing of a terminal."""
    try:
        yield
    except kinds as error:
        raise click.ClickException(str(error)) from error


def print_json(found: Mapping[str, Any]) -> None:
    """One JSON object; what is no number is null, as JSON knows no NaN."""
    click.echo(json.dumps(found, indent=1, allow_nan=False))


def print_pairs(found: Mapping[str, Any]) -> None:
    """Names and values."""
    table = Table("", "", show_header=False)
    for name, value in found.items():
        table.add_row(name, str(value))
    Console().print(table)
