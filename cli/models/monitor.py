"""`candor models monitor`: served features, scores and outcomes against the training data."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import boto3
import click

from candor.clock import SystemClock
from candor.registry.artifacts import s3_client
from cli.options import Moment, common
from cli.output import one_line, print_json
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from lender import DEFINITIONS
from training.monitoring import CHAMPION

if TYPE_CHECKING:
    from training.monitoring.monitor import Monitoring


class DriftFound(click.ClickException):
    """Result of a report in which a watched figure is past its limit: no failure, with an exit code of its own."""

    exit_code = 3

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the figures, and what to do, on standard error."""
        click.echo(f"Drift found: {self.format_message()}", file=file, err=file is None)
        click.echo("What to do: docs/how-to/monitor-a-model.md#what-to-do", file=file, err=file is None)


@click.command("monitor")
@click.option("--run", default=CHAMPION, show_default=True, help="Run whose model and data set are used.")
@click.option("--since", type=Moment(), help="Decisions of this moment or later. Default: the data set's.")
@click.option("--until", type=Moment(), help="Ignore everything from this moment on. Default: now.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots.")
@click.option("--publish", is_flag=True, help="Write the figures as CloudWatch metrics; alarms watch them.")
@common
def monitor_command(
    run: str,
    since: int | None,
    until: int | None,
    html: Path | None,
    stage: Stage,
    *,
    publish: bool,
    as_json: bool,
) -> None:
    """Compare served features with the training data, and predictions with the outcomes of loans.

    Per feature and for the score: PSI, Jensen-Shannon distance (base 2) and missing rate against the training
    snapshot, in bins frozen on it. As labels mature: calibration, and bad rate against predicted by month of
    origination; immature loans count for neither side. Approval rate over time, and all of it by segment. Moments
    are those of decisions.

    Exit code 0 if no watched figure is past its limit, 3 if one is (the report is complete), 1 if there is no report.
    """
    # Statistics and plots take seconds to load: only here are they needed.
    from cli.models.monitor_tables import print_report
    from training.monitoring.metrics import publish as publish_metrics
    from training.monitoring.signals import LIMITS, signals

    with Progress() as progress, one_line(ArchiveDamaged):
        report = _report(stage, progress, run, since, until or SystemClock().now_ms())
    watched = list(signals(report))
    if publish:
        publish_metrics(boto3.client("cloudwatch"), report, stage.name)
    if as_json:
        print_json(
            report.as_json()
            | {"signals": [signal._asdict() | {"limit": LIMITS[signal.name]} for signal in watched]}
        )
    else:
        print_report(report, watched)
    if html:
        from training.monitoring.page import page

        html.write_text(page(report), encoding="utf-8")
    if past := [signal for signal in watched if signal.past_limit]:
        raise DriftFound(
            "; ".join(
                f"{signal.name} {signal.value:.3f}, limit {LIMITS[signal.name]:g} ({signal.words})"
                for signal in past
            )
        )


def _report(stage: Stage, progress: Progress, run: str, since: int | None, until: int) -> Monitoring:
    from training.monitoring.reading import MonitoringInput, report
    from training.monitoring.stored import StageLocations, model_of, read_input

    names = ("RegistryTableName", "BundlesBucketName", "TrainingBucketName", "ArchiveBucketName")
    locations, s3 = StageLocations(*(stage.output(name) for name in names)), s3_client()
    progress.update("reading the snapshot", 0)
    bundle, snapshot = model_of(s3, locations, run)
    archive = read_input(s3, locations)
    counted = MonitoringInput(
        progress.each("reading decisions", archive.decisions),
        progress.each("reading events", archive.envelopes),
    )
    return report(bundle, DEFINITIONS, snapshot, counted, since=since, until=until)
