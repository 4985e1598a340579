"""`candor models compare`: two evaluations side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.bundles import SHORT, resolve_bundle
from cli.figures import FIGURES, VALIDATION, Figure
from cli.models.evaluations import evaluation_file
from cli.options import common
from cli.output import print_json
from cli.stage import Stage


@click.command("compare")
@click.argument("bundle")
@click.argument("other", required=False)
@common
def compare_command(bundle: str, other: str | None, stage: Stage, *, as_json: bool) -> None:
    """Print the evaluations of BUNDLE and OTHER side by side. Default for OTHER: the champion.

    Each was measured on the late part of its own run; the newer evaluation has the confidence interval of a
    difference on the same rows.
    """
    pair = [resolve_bundle(stage, bundle), resolve_bundle(stage, other) if other else _champion(stage)]
    rows = compared(*(evaluation_of(stage, sha) for sha in pair))
    if as_json:
        print_json({"bundles": pair, "figures": rows})
        return
    table = Table("", *(sha[:SHORT] for sha in pair), "difference")
    for path, (first, second, difference) in rows.items():
        figure = FIGURES[path]
        sides = ("not measured" if value is None else figure.text(value) for value in (first, second))
        table.add_row(figure.name, *sides, "" if difference is None else _signed(figure, difference))
    Console().print(table)
    click.echo(f"Figures: {VALIDATION}")


def evaluation_of(stage: Stage, sha: str) -> dict[str, Any]:
    """Evaluation of a bundle, as stored at its registration. Raises ClickException."""
    evaluation: dict[str, Any] = json.loads(evaluation_file(stage, sha, "evaluation.json"))
    return evaluation


def compared(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Figures of both evaluations and their difference (first less second); None where one lacks the figure."""
    rows = {}
    for path in FIGURES:
        pair = _figure(first, path), _figure(second, path)
        difference = None if pair[0] is None or pair[1] is None else pair[0] - pair[1]
        if pair != (None, None):
            rows[path] = (*pair, difference)
    return rows


def _figure(evaluation: Mapping[str, Any], path: str) -> float | None:
    part, _, name = path.partition(".")
    section = evaluation.get(part) or {}
    if path == "fairness.air":
        return min((group["air"] for group in section.get("groups", ())), default=None)
    value = section.get(name)
    return None if value is None else float(value)


def _champion(stage: Stage) -> str:
    serving = stage.registry.pointer().bundle
    if serving is None:
        raise click.ClickException("no champion serves: name the OTHER bundle")
    return serving


def _signed(figure: Figure, difference: float) -> str:
    return ("+" if difference >= 0.0 else "-") + figure.text(abs(difference))
