"""Decision tables from files, with the checks of the build."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from candor.features.definitions import Definitions
from candor.policy.validation import Known, faults
from candor.reasons import Reason, unspecific_reasons
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


def read_reasons(file: Path) -> tuple[Reason, ...]:
    """Read reasons: a JSON list of objects with code, text and factor. Raises ClickException."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=tuple[Reason, ...])
    except (OSError, msgspec.MsgspecError) as error:
        raise click.ClickException(
            f"{file} is no list of reasons: {error}; `candor policy show --out` writes the present ones"
        ) from error


def faults_of(
    table: Mapping[str, Any], reasons: Sequence[Reason] = REASONS, definitions: Definitions = DEFINITIONS
) -> list[str]:
    """Faults of a table and of its reasons' texts; empty if there are none. Default: this code's declarations."""
    codes = [reason.code for reason in reasons if not reason.of_model]
    views = [view.name for view in definitions.views]
    known = Known(definitions.features, views, codes, ACCEPTANCE.currencies)
    return [*faults(table, known), *unspecific_reasons(reasons)]


def require_faultless(
    table: Mapping[str, Any], reasons: Sequence[Reason] = REASONS, definitions: Definitions = DEFINITIONS
) -> None:
    """Raise ClickException for a table that a bundle would refuse."""
    table_faults = faults_of(table, reasons, definitions)
    if table_faults:
        raise click.ClickException(
            f"{table_faults[0]}; `candor policy check` lists all {len(table_faults)} faults"
        )


def read_faultless(file: Path) -> dict[str, Any]:
    """Read a table that a bundle would accept. Raises ClickException."""
    table = read_table(file)
    require_faultless(table)
    return table
