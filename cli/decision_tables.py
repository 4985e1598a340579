"""Decision tables from files, checked as the build checks them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from candor.policy.validation import Known, faults
from lender import DEFINITIONS, REASONS

TABLE_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
"""Type of an option that names the file of a decision table."""


def read_table(file: Path) -> dict[str, Any]:
    """A decision table. Raises ClickException if the file is no JSON object."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.ClickException(f"{file} is no decision table: save it from the GoRules editor")
    return found


def faults_of(table: Mapping[str, Any]) -> list[str]:
    """What is wrong with a table, by this release's definitions and reasons."""
    codes = [reason.code for reason in REASONS if not reason.features]
    return faults(table, Known(DEFINITIONS.features, [view.name for view in DEFINITIONS.views], codes))


def require_faultless(table: Mapping[str, Any]) -> None:
    """Raise ClickException for a table that would not become a bundle."""
    found = faults_of(table)
    if found:
        raise click.ClickException(f"{found[0]}; `candor policy check` tells all {len(found)} faults")


def read_faultless(file: Path) -> dict[str, Any]:
    """A table that could become part of a bundle. Raises ClickException."""
    table = read_table(file)
    require_faultless(table)
    return table
