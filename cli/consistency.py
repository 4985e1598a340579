"""`candor features consistency`: logged decisions against log and archive, as a report, as metrics."""

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
from cli.options import Shown, common, interval, one_line, print_json, print_pairs
from cli.replaying import ERASED, Past, chosen, without_erased
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.replay.consistency import ArchivedHistory, ConsistencyReport, consistency
from lender import DEFINITIONS

SERVICE = "consistency"
"""The dimension that tells these metrics from those of functions."""


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
    """Compare logged decisions with what the items held, and with all that is known by now.

    As served: every vector is computed again from the versions that were read; any difference is a fault. As of the
    decision's moment: the offline engine answers from the whole archive; what differs is told by cause. Then how long
    events took from the bus into the items, which the bus tells to the second.

    Exit code 1 if anything was served wrongly or cannot be explained.
    """
    with Shown() as shown, one_line(ArchiveDamaged):
        report = _report(stage, shown, since, until, last)
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
    stage: Stage, shown: Shown, since: int | None, until: int | None, last: int | None
) -> ConsistencyReport:
    tombstones = Erasures(stage.output("RegistryTableName")).tombstones()
    decisions, erased = without_erased(chosen(stage, shown, since=since, until=until, last=last), tombstones)
    past = Past(stage, decisions, shown)
    shown.told("comparing", 0, len(decisions))
    archived = ArchivedHistory(DEFINITIONS, past.log, past.items, stage.retention, SystemClock().now_ms())
    report = consistency(decisions, archived, tombstones.erased_at, since)
    shown.told("comparing", len(decisions), len(decisions))
    if erased:
        report.decisions += erased
        report.not_replayable[ERASED] += erased
    return report


def metrics(report: ConsistencyReport, stage: str) -> Iterator[dict[str, Any]]:
    """The report as CloudWatch's metric data."""
    dimensions = [{"Name": "service", "Value": SERVICE}, {"Name": "stage", "Value": stage}]
    for name, value in (
        ("AsServedMismatches", len(report.mismatches)),
        ("UnexplainedDifferences", report.unexplained_features),
    ):
        yield {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": "Count"}
    for view, found in report.freshness.items():
        yield {
            "MetricName": "FreshnessP99",
            "Dimensions": [*dimensions, {"Name": "view", "Value": view}],
            "Value": found.p99,
            "Unit": "Milliseconds",
        }


def _print(found: dict[str, Any]) -> None:
    print_pairs(
        {name: found[name] for name in ("decisions", "as_served_mismatches", "compared", "features")}
        | {f"not replayable: {reason}": count for reason, count in found["not_replayable"].items()}
    )
    console = Console()
    causes = Table("differs because of", "features", "%", "decisions", "%")
    for cause, tally in found["causes"].items():
        causes.add_row(cause, *(str(value) for value in tally.values()))
    if found["causes"]:
        console.print(causes)
    fresh = Table("view", "events", "p50 ms", "p99 ms", title="from the bus into the item")
    for view, row in found["freshness_ms"].items():
        fresh.add_row(view, *(str(value) for value in row.values()))
    console.print(fresh)
    for name in ("mismatching", "unexplained"):
        for one in found[name]:
            console.print(name, one)
