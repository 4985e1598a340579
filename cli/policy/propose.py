"""`candor policy propose`: propose a decision table as a release."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from candor.model.bundle import Bundle
from candor.model.policy_document import PolicyDocument
from candor.policy import Policy
from candor.reasons import Reason
from candor.registry.policy_releases import PolicyReleases
from cli.actors import actor, by_option, second_person_required
from cli.decision_tables import TABLE_FILE, faults_of, read_reasons, read_table
from cli.options import common, interval
from cli.output import print_json
from cli.policy.backtest import backtest_of, print_backtest
from cli.policy.output import print_release
from cli.policy_releases import code_difference, policy_releases, release_json
from cli.stage import Stage
from history.rescore.backtest import Backtest
from lender import DEFINITIONS

RECENT: Final = 1_000
"""Latest decisions that a proposal is tried on, unless others are named."""

TELLING: Final = 20
"""Decisions from which on a table that approves nobody, or everybody, is refused."""


@click.command("propose")
@click.argument("table", type=TABLE_FILE)
@click.option(
    "--reasons",
    "reasons_file",
    type=TABLE_FILE,
    help="All reasons of the hard rules. Default: the champion's.",
)
@click.option("--why", required=True, help="Reason for the audit.")
@by_option
@click.option("--apply", "at_once", is_flag=True, help="Release it at once, where one person may.")
@interval
@common
def propose_command(  # noqa: PLR0913 - a parameter for each option
    table: Path,
    reasons_file: Path | None,
    why: str,
    by: str,
    since: int | None,
    until: int | None,
    last: int | None,
    stage: Stage,
    *,
    at_once: bool,
    as_json: bool,
) -> None:
    """Propose TABLE as the decision table: check it, try it on recent decisions, store its bundle.

    Nothing decides otherwise until `candor policy approve`. Without an interval, it is tried on the latest 1,000
    decisions. Where the stage requires a second person, another person approves.
    """
    if at_once and second_person_required(stage):
        raise click.UsageError("this stage requires a second person: leave --apply out")
    releases = policy_releases(stage)
    document = read_document(releases.serving(), table, reasons_file)
    window = last if last or since is not None or until is not None else RECENT
    result = backtest_of(stage, Policy(document.policy), since=since, until=until, last=window)
    require_approvals(result)
    proposer = actor(stage, by, why)
    release = releases.propose(document, proposer)
    if at_once:
        releases.approve(release, proposer, second_person=False)
        release = releases.open_proposal(release.number)
    if as_json:
        print_json({**release_json(release), **_rest(releases, result)})
        return
    if result is None:
        click.echo("no decision is in the archive yet: the table is tried on none")
    else:
        print_backtest(result)
    print_release(release, code_difference(releases))
    if not at_once:
        click.echo(
            f"proposed: nothing decides otherwise yet. `candor policy approve {release.number}` releases it"
        )


def read_document(champion: Bundle, table: Path, reasons_file: Path | None) -> PolicyDocument:
    """Table and reasons from files, without faults beside this champion. Raises ClickException with every fault."""
    reasons = read_reasons(reasons_file) if reasons_file else champion.reasons
    require_model_reasons(champion, reasons)
    document = PolicyDocument.of(read_table(table), reasons)
    definitions = champion.trained_on(DEFINITIONS)
    table_faults = faults_of(document.policy, document.beside(champion.reasons), definitions)
    if table_faults:
        raise click.ClickException("\n".join([*table_faults, f"{len(table_faults)} faults: mend the table"]))
    return document


def require_model_reasons(champion: Bundle, reasons: tuple[Reason, ...]) -> None:
    """Raise ClickException if reasons with features differ from the champion's: they belong to its model."""
    own = [reason for reason in champion.reasons if reason.of_model]
    other = [reason.code for reason in reasons if reason.of_model and reason not in own]
    if other:
        raise click.ClickException(
            f"reason {', '.join(other)} has features and differs from the champion's: it belongs to the model; change it "
            "in the code and retrain, or leave it out"
        )


def require_approvals(result: Backtest | None) -> None:
    """Raise ClickException for a table that turns recent decisions into approvals of nobody, or of everybody."""
    if result is None or result.decisions < TELLING:
        return
    was, now, decisions = result.before.approved, result.now.approved, result.decisions
    if now in (0, decisions) and now != was:
        approved = "none" if now == 0 else "all"
        raise click.ClickException(
            f"the table approves {approved} of the {decisions} decisions it was tried on, where {was} were approved: "
            "compare its units (minor units of the currency), currencies and columns"
        )


def _rest(releases: PolicyReleases, result: Backtest | None) -> dict[str, Any]:
    return {"backtest": result and result.as_json(), "notice": code_difference(releases)}
