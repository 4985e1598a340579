"""Decision tables from files, with the checks of the build."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from candor.policy.validation import Known, faults
from lender import ACCEPTANCE, DEFINITIONS, REASONS

TABLE_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
"""Type of an option that names the file of a decision table."""


def read_table(file: Path) -> dict[str, Any]:
    """Read a decision table. Raises ClickException if the file is not a JSON object."""
    try:
        table = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file} is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise click.ClickException(f"{file} is not a decision table: save it from the GoRules editor")
    return table


def faults_of(table: Mapping[str, Any]) -> list[str]:
    """Faults of a table under this release's definitions and reasons; empty if there are none."""
    codes = [reason.code for reason in REASONS if not reason.features]
    views = [view.name for view in DEFINITIONS.views]
    return faults(table, Known(DEFINITIONS.features, views, codes, ACCEPTANCE.currencies))


def require_faultless(table: Mapping[str, Any]) -> None:
    """Raise ClickException for a table that a bundle would refuse."""
    table_faults = faults_of(table)
    if table_faults:
        raise click.ClickException(
            f"{table_faults[0]}; `candor policy check` lists all {len(table_faults)} faults"
        )


def read_faultless(file: Path) -> dict[str, Any]:
    """Read a table that a bundle would accept. Raises ClickException."""
    table = read_table(file)
    require_faultless(table)
    return table
