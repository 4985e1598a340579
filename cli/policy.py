"""`candor policy …`: a table is checked, and tried on what was decided, before it is part of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from candor.decision import Decision
from candor.errors import BundleRefused
from candor.policy import Policy
from candor.policy.validation import Known, faults
from candor.underwriting import LoadedBundle
from cli.decisions import judge_named, judge_of, read_table
from cli.model_reports import named_bundle
from cli.options import Shown, common, interval, one_line, print_json, print_pairs
from cli.replaying import chosen
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.rescore.backtest import OUTCOMES, Backtest, backtest, loss_in
from lender import DEFINITIONS, REASONS
from lender import policy as lender_policy

LOSS_GIVEN_BAD: Final = 0.45
"""What a bad loan costs per unit lent, where no bundle tells."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def policy() -> None:
    """Policy: the decision table, checked and tried on the past before it serves."""


@policy.command("backtest")
@click.option("--policy", "file", type=_FILE, help="The table to try. Default: this release's.")
@click.option(
    "--bundle",
    help="The model to score with, by the first letters of its name. Default: each decision's own.",
)
@click.option(
    "--loss-given-bad",
    "loss",
    type=click.FloatRange(0, 1),
    help="What a bad loan costs per unit lent. Default: as the model was trained, else 0.45.",
)
@interval
@common
def backtest_command(
    file: Path | None,
    bundle: str | None,
    loss: float | None,
    since: int | None,
    until: int | None,
    last: int | None,
    stage: Stage,
    *,
    as_json: bool,
) -> None:
    """LoadedBundle archived decisions again with another table or model: approvals, expected loss, who changes sides.

    Nothing is written. A decision reaches the archive within minutes.
    """
    table = read_table(file) if file else lender_policy()
    require_faultless(table)
    candidate = Policy(table)
    model = judge_named(stage, named_bundle(stage, bundle)) if bundle else None
    with Shown() as shown, one_line(ArchiveDamaged):
        decisions = chosen(stage, shown, since=since, until=until, last=last)
        if not decisions:
            raise click.ClickException("no decision is in the archive for these moments: widen --since")
        known = model or next((found for one in reversed(decisions) if (found := _own(stage, one))), None)
        at_stake = loss if loss is not None else (known and loss_in(known.bundle.lineage)) or LOSS_GIVEN_BAD
        told = backtest(
            shown.each("judging", decisions, len(decisions)),
            lambda one: model or _own(stage, one),
            lambda _: candidate,
            at_stake,
        )
    if as_json:
        print_json(told.as_json())
    else:
        _print(told)


@policy.command("check")
@click.option("--policy", "file", type=_FILE, help="The table to check. Default: this release's.")
@common
def check_command(file: Path | None, stage: Stage, *, as_json: bool) -> None:  # noqa: ARG001 - as all commands
    """Check a table as the build does: rows that never fire, unknown names, outcomes without a reason.

    Exit code 1 if anything is wrong.
    """
    table = read_table(file) if file else lender_policy()
    found = faults_of(table)
    if as_json:
        print_json({"faults": found})
    for fault in () if as_json else found:
        click.echo(fault)
    if found:
        raise click.ClickException(f"{len(found)} faults: mend the table, or it will not become a bundle")
    if not as_json:
        print_pairs({"policy": Policy(table).hash, "faults": "none"})


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


_JUDGES: dict[str, LoadedBundle | None] = {}


def _own(stage: Stage, decision: Decision) -> LoadedBundle | None:
    """The model of a decision, read once; None where there was none, or its file is gone."""
    sha = decision.bundle
    if sha is not None and sha not in _JUDGES:
        try:
            _JUDGES[sha] = judge_of(stage, decision)
        except BundleRefused:
            _JUDGES[sha] = None
    return None if sha is None else _JUDGES[sha]


def _print(told: Backtest) -> None:
    console, found = Console(), told.as_json()
    summary = Table("", "as decided", "candidate", "swapped in", "swapped out")
    swaps = found["swap_set"]
    sides = (found["before"], found["now"], swaps["in"], swaps["out"])
    summary.add_row("approved", *(str(side["approved"]) for side in sides))
    summary.add_row("approval rate", *(_percent(side["approval_rate"]) for side in sides))
    for name in ("amount", "expected_loss"):
        for currency in sorted({currency for side in sides for currency in side[name]}):
            values = (f"{side[name].get(currency, 0):,}" for side in sides)
            summary.add_row(f"{name.replace('_', ' ')}, {currency}", *values)
    console.print(summary)
    swapped = Table("as decided", *(f"now {outcome}" for outcome in OUTCOMES))
    for was in OUTCOMES:
        swapped.add_row(was, *(str(swaps["counts"][was][now]) for now in OUTCOMES))
    console.print(swapped)
    left = {f"left out: {why}": count for why, count in told.left_out.items()}
    print_pairs({"decisions": told.decisions, "loss given bad": told.loss_given_bad} | left)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"
