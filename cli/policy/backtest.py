"""`candor policy backtest`: a table or a model tried on what was decided."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from candor.decision import Decision
from candor.errors import BundleRefused
from candor.policy import Policy
from candor.underwriting import Judge
from cli.archived_decisions import chosen
from cli.bundles import judge_named, named_bundle
from cli.decision_tables import TABLE_FILE, read_table, require_faultless
from cli.options import common, interval
from cli.output import one_line, print_json, print_pairs
from cli.progress import Shown
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.rescore.backtest import OUTCOMES, Backtest, backtest, loss_in
from lender import policy as lender_policy

LOSS_GIVEN_BAD: Final = 0.45
"""What a bad loan costs per unit lent, where no bundle tells."""


@click.command("backtest")
@click.option("--policy", "file", type=TABLE_FILE, help="The table to try. Default: this release's.")
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
    """Judge archived decisions again with another table or model: approvals, expected loss, who changes sides.

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


_JUDGES: dict[str, Judge | None] = {}


def _own(stage: Stage, decision: Decision) -> Judge | None:
    """The model of a decision, read once; None where there was none, or its file is gone."""
    sha = decision.bundle
    if sha is not None and sha not in _JUDGES:
        try:
            _JUDGES[sha] = judge_named(stage, sha)
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
