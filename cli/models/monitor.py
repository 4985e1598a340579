"""`candor models monitor`: served features, scores and outcomes beside what a model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import click

from candor.clock import SystemClock
from candor.registry.artifacts import s3_client
from cli.options import Moment, common
from cli.output import one_line, print_json
from cli.progress import Shown
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from lender import DEFINITIONS
from training.monitoring import CHAMPION

if TYPE_CHECKING:
    from training.monitoring.monitor import Monitoring


@click.command("monitor")
@click.option("--run", default=CHAMPION, show_default=True, help="The run whose model and data set to take.")
@click.option("--since", type=Moment(), help="Decisions of this moment or later. Default: the data set's.")
@click.option("--until", type=Moment(), help="Know nothing of this moment or later. Default: now.")
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
    """Compare what was served with what the model was trained on, and its predictions with what became of the loans.

    Per feature and for the score: PSI, Jensen-Shannon distance (base 2) and missing rate against the training snapshot, in
    bins frozen on it. As labels mature: calibration, and bad rate against predicted by month of origination; immature
    loans count for neither side. Approval rate over time, and all of it by segment. A moment is a decision's own.

    Exit code 1 if a watched figure is past its limit.
    """
    # Statistics and plots take seconds to load: only here are they needed.
    from cli.models.monitor_tables import print_report
    from training.monitoring.metrics import publish as publish_metrics
    from training.monitoring.signals import LIMITS, signals

    with Shown() as shown, one_line(ArchiveDamaged):
        found = _report(stage, shown, run, since, until or SystemClock().now_ms())
    watched = list(signals(found))
    if publish:
        publish_metrics(boto3.client("cloudwatch"), found, stage.name)
    if as_json:
        print_json(
            found.as_json() | {"signals": [one._asdict() | {"limit": LIMITS[one.name]} for one in watched]}
        )
    else:
        print_report(found, watched)
    if html:
        from training.monitoring.page import page

        html.write_text(page(found), encoding="utf-8")
    past = [f"{one.name} ({one.words})" for one in watched if one.past_limit]
    if past:
        raise click.ClickException(f"past their limits: {', '.join(past)}")


def _report(stage: Stage, shown: Shown, run: str, since: int | None, until: int) -> Monitoring:
    from training.monitoring.reading import Archived, report
    from training.monitoring.stored import Places, archived, model_of

    names = ("RegistryTableName", "BundlesBucketName", "TrainingBucketName", "ArchiveBucketName")
    places, s3 = Places(*(stage.output(name) for name in names)), s3_client()
    shown.told("reading the snapshot", 0)
    bundle, snapshot = model_of(s3, places, run)
    found = archived(s3, places)
    counted = Archived(
        shown.each("reading decisions", found.decisions), shown.each("reading events", found.envelopes)
    )
    return report(bundle, DEFINITIONS, snapshot, counted, since=since, until=until)
