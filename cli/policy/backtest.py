"""`candor policy backtest`: another table or model on archived decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from candor.decision import Decision
from candor.errors import BundleRefused
from candor.policy import Policy
from candor.underwriting import LoadedBundle
from candor.units import money
from cli.archived_decisions import select_decisions
from cli.bundles import judge_named, resolve_bundle
from cli.decision_tables import TABLE_FILE, read_table, require_faultless
from cli.options import common, interval
from cli.output import one_line, print_json, print_pairs
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.rescore.backtest import OUTCOMES, Backtest, backtest, loss_in
from lender import policy as lender_policy

LOSS_GIVEN_BAD: Final = 0.45
"""Loss per unit lent of a bad loan, where no bundle states it."""


@click.command("backtest")
@click.option("--policy", "file", type=TABLE_FILE, help="Table to test. Default: the code's.")
@click.option(
    "--bundle",
    help="Model to score with: its name or a unique prefix. Default: each decision's own.",
)
@click.option(
    "--loss-given-bad",
    "loss",
    type=click.FloatRange(0, 1),
    help="Loss per unit lent of a bad loan. Default: as the model was trained, else 0.45.",
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
    """Repeat archived decisions with another table or model: approvals, expected loss, swap set.

    Nothing is written. A decision reaches the archive within minutes.
    """
    table = read_table(file) if file else lender_policy()
    require_faultless(table)
    candidate = Policy(table)
    model = judge_named(stage, resolve_bundle(stage, bundle)) if bundle else None
    result = backtest_of(stage, candidate, model, loss, since=since, until=until, last=last)
    if result is None:
        raise click.ClickException("no decision is in the archive for these moments: widen --since")
    if as_json:
        print_json(result.as_json())
    else:
        print_backtest(result)


def backtest_of(
    stage: Stage,
    candidate: Policy,
    model: LoadedBundle | None = None,
    loss: float | None = None,
    *,
    since: int | None = None,
    until: int | None = None,
    last: int | None = None,
) -> Backtest | None:
    """Backtest of a table on archived decisions, each with its own model or with `model`; None without decisions.

    `loss` is that of a bad loan per unit lent; None takes the newest model's, else `LOSS_GIVEN_BAD`.
    """
    with Progress() as progress, one_line(ArchiveDamaged):
        decisions = select_decisions(stage, progress, since=since, until=until, last=last)
        if not decisions:
            return None
        known = model or next(
            (own for decision in reversed(decisions) if (own := _own(stage, decision))), None
        )
        at_stake = loss if loss is not None else (known and loss_in(known.bundle.lineage)) or LOSS_GIVEN_BAD
        return backtest(
            progress.each("judging", decisions, len(decisions)),
            lambda decision: model or _own(stage, decision),
            lambda _: candidate,
            at_stake,
        )


_JUDGES: dict[str, LoadedBundle | None] = {}


def _own(stage: Stage, decision: Decision) -> LoadedBundle | None:
    """Model of a decision, read once; None if it had none or the file is gone."""
    sha = decision.bundle
    if sha is not None and sha not in _JUDGES:
        try:
            _JUDGES[sha] = judge_named(stage, sha)
        except BundleRefused:
            _JUDGES[sha] = None
    return None if sha is None else _JUDGES[sha]


def print_backtest(result: Backtest) -> None:
    """Print the result as tables."""
    console, report = Console(), result.as_json()
    summary = Table("", "as decided", "candidate", "swapped in", "swapped out")
    swaps = report["swap_set"]
    sides = (report["before"], report["now"], swaps["in"], swaps["out"])
    summary.add_row("approved", *(str(side["approved"]) for side in sides))
    summary.add_row("approval rate", *(_percent(side["approval_rate"]) for side in sides))
    for name in ("amount", "expected_loss"):
        for currency in sorted({currency for side in sides for currency in side[name]}):
            values = (money(side[name].get(currency, 0), [currency]) for side in sides)
            summary.add_row(name.replace("_", " "), *values)
    console.print(summary)
    swapped = Table("as decided", *(f"now {outcome}" for outcome in OUTCOMES))
    for was in OUTCOMES:
        swapped.add_row(was, *(str(swaps["counts"][was][now]) for now in OUTCOMES))
    console.print(swapped)
    left = {f"left out: {why}": count for why, count in result.left_out.items()}
    print_pairs({"decisions": result.decisions, "loss given bad": result.loss_given_bad} | left)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"
