"""`candor features consistency`: compare logged decisions with commits and archive; report and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import click
from rich.console import Console
from rich.table import Table

from candor.clock import SystemClock
from candor.edge.telemetry import NAMESPACE
from candor.store.erasures import Erasures
from cli.archived_decisions import select_decisions
from cli.features.replay_inputs import ERASED, ReplayInputs, without_erased
from cli.options import common, interval
from cli.output import one_line, print_json, print_pairs
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.replay.consistency import ArchivedHistory, ConsistencyReport, consistency
from lender import DEFINITIONS

SERVICE = "consistency"
"""Value of the dimension `service`, which separates these metrics from those of functions."""


@click.command("consistency")
@interval
@click.option("--publish", is_flag=True, help="Write the figures as CloudWatch metrics; alarms watch them.")
@common
def consistency_command(
    since: int | None,
    until: int | None,
    last: int | None,
    stage: Stage,
    *,
    publish: bool,
    as_json: bool,
) -> None:
    """Compare logged decisions with the items that they read, and with the whole archive.

    As served: every vector is recomputed from the item versions that were read; any difference is a fault. As of
    the decision's moment: the offline engine answers from the whole archive; differences are reported by cause.
    Freshness: the time of events from the bus into the items; the bus stamps whole seconds.

    Exit code 1 if anything was served wrongly or a difference cannot be explained.
    """
    with Progress() as progress, one_line(ArchiveDamaged):
        report = _report(stage, progress, since, until, last)
    if publish:
        cloudwatch: Any = boto3.client("cloudwatch")
        cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=list(metrics(report, stage.name)))
    if as_json:
        print_json(report.as_json())
    else:
        _print(report.as_json())
    if report.mismatches or report.unexplained_features:
        raise click.ClickException(
            f"{len(report.mismatches)} decisions served wrongly, {report.unexplained_features} differences unexplained"
        )


def _report(
    stage: Stage, progress: Progress, since: int | None, until: int | None, last: int | None
) -> ConsistencyReport:
    tombstones = Erasures(stage.output("RegistryTableName")).tombstones()
    decisions, erased = without_erased(
        select_decisions(stage, progress, since=since, until=until, last=last), tombstones
    )
    past = ReplayInputs(stage, decisions, progress)
    progress.update("comparing", 0, len(decisions))
    archived = ArchivedHistory(DEFINITIONS, past.log, past.items, stage.retention, SystemClock().now_ms())
    report = consistency(decisions, archived, tombstones.erased_at, since)
    progress.update("comparing", len(decisions), len(decisions))
    if erased:
        report.decisions += erased
        report.not_replayable[ERASED] += erased
    return report


def metrics(report: ConsistencyReport, stage: str) -> Iterator[dict[str, Any]]:
    """CloudWatch metric data of the report."""
    dimensions = [{"Name": "service", "Value": SERVICE}, {"Name": "stage", "Value": stage}]
    for name, value in (
        ("AsServedMismatches", len(report.mismatches)),
        ("UnexplainedDifferences", report.unexplained_features),
    ):
        yield {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": "Count"}
    for view, freshness in report.freshness.items():
        yield {
            "MetricName": "FreshnessP99",
            "Dimensions": [*dimensions, {"Name": "view", "Value": view}],
            "Value": freshness.p99,
            "Unit": "Milliseconds",
        }


def _print(summary: dict[str, Any]) -> None:
    print_pairs(
        {name: summary[name] for name in ("decisions", "as_served_mismatches", "compared", "features")}
        | {f"not replayable: {reason}": count for reason, count in summary["not_replayable"].items()}
    )
    console = Console()
    causes = Table("differs because of", "features", "%", "decisions", "%")
    for cause, tally in summary["causes"].items():
        causes.add_row(cause, *(str(value) for value in tally.values()))
    if summary["causes"]:
        console.print(causes)
    fresh = Table("view", "events", "p50 ms", "p99 ms", title="from the bus into the item")
    for view, row in summary["freshness_ms"].items():
        fresh.add_row(view, *(str(value) for value in row.values()))
    console.print(fresh)
    for name in ("mismatching", "unexplained"):
        for decision in summary[name]:
            console.print(name, decision)
