"""Versions of views: the serving version, and the table of kept versions."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from candor.features.views import FeatureView
from candor.registry.pointer import Pointer
from cli.options import views_named
from cli.stage import Stage
from lender import DEFINITIONS


def serving_version(stage: Stage, name: str, version: str | None) -> FeatureView:
    """The requested version of a view; the one that serves if `version` is None."""
    declared, *_ = views_named(DEFINITIONS, name)
    serving = stage.registry.pointer().views.get(name, declared.version)
    return DEFINITIONS.view(name, version or serving)


def print_versions(pointer: Pointer, *, as_json: bool) -> None:
    declared = {view.name: view.version for view in DEFINITIONS.views}
    rows = [
        {
            "view": view.name,
            "version": view.version,
            "serves": pointer.views.get(view.name, declared.get(view.name)) == view.version,
        }
        for view in DEFINITIONS.kept
    ]
    if as_json:
        click.echo(json.dumps({"bundle": pointer.bundle, "views": rows}, indent=1))
        return
    table = Table("view", "version", "")
    for row in rows:
        table.add_row(str(row["view"]), str(row["version"]), "serves" if row["serves"] else "stands by")
    Console().print(table)
