"""`candor models monitor`: served features, scores and outcomes beside what a model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import boto3
import click
from rich.console import Console
from rich.table import Table

from candor.clock import SystemClock, format_rfc3339
from candor.store.artifacts import s3_client
from cli.options import Moment, Shown, common, one_line, print_json, print_pairs
from cli.stage import Stage
from history.archive import ArchiveDamaged
from lender import DEFINITIONS
from training.monitoring import metrics
from training.monitoring.monitor import Monitoring
from training.monitoring.reading import Archived, report
from training.monitoring.signals import LIMITS, Signal, signals
from training.monitoring.stored import CHAMPION, Places, archived, model_of

FEATURES_SHOWN: Final = 15
"""So many features are printed, the most shifted ones; JSON and the page have all."""


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
    with Shown() as shown, one_line(ArchiveDamaged):
        found = _report(stage, shown, run, since, until or SystemClock().now_ms())
    watched = list(signals(found))
    if publish:
        metrics.publish(boto3.client("cloudwatch"), found, stage.name)
    if as_json:
        print_json(
            found.as_json() | {"signals": [one._asdict() | {"limit": LIMITS[one.name]} for one in watched]}
        )
    else:
        _print(found, watched)
    if html:
        from training.monitoring.page import page  # plots take a second to load: only here are they needed

        html.write_text(page(found), encoding="utf-8")
    past = [f"{one.name} ({one.words})" for one in watched if one.past_limit]
    if past:
        raise click.ClickException(f"past their limits: {', '.join(past)}")


def _report(stage: Stage, shown: Shown, run: str, since: int | None, until: int) -> Monitoring:
    names = ("RegistryTableName", "BundlesBucketName", "TrainingBucketName", "ArchiveBucketName")
    places, s3 = Places(*(stage.output(name) for name in names)), s3_client()
    shown.told("reading the snapshot", 0)
    bundle, snapshot = model_of(s3, places, run)
    found = archived(s3, places)
    counted = Archived(
        shown.each("reading decisions", found.decisions), shown.each("reading events", found.envelopes)
    )
    return report(bundle, DEFINITIONS, snapshot, counted, since=since, until=until)


def _print(found: Monitoring, watched: list[Signal]) -> None:
    console = Console()
    print_pairs(
        {"run": found.run, "bundle": found.bundle[:12], "snapshot": f"{found.snapshot['rows']} checkouts"}
        | {name: format_rfc3339(getattr(found, name)) for name in ("since", "until", "observed_until")}
        | {name: _plain(found.population[name]) for name in found.population if name != "states"}
    )
    console.print(_watched(watched))
    console.print(_drifts(found))
    if found.calibration is not None:
        told = found.calibration
        print_pairs(
            {
                "labels": f"{told.n}, {told.bads} bad",
                "bad rate": f"{told.observed:.4f}, predicted {told.predicted:.4f}",
                "ratio": _ranged(told.ratio, told.ratio_interval),
                "calibration slope": _ranged(told.slope, told.slope_interval),
                "calibration intercept": _number(told.intercept),
                "expected calibration error": f"{told.ece:.4f}",
            }
        )
    for table in (_vintages(found), _approvals(found), _segments(found)):
        console.print(table)


def _watched(found: list[Signal]) -> Table:
    table = Table("watched", "value", "limit", "", "")
    for one in found:
        state = "past its limit" if one.past_limit else ""
        table.add_row(one.name, f"{one.value:.3f}", f"{LIMITS[one.name]:g}", one.words, state)
    return table


def _drifts(found: Monitoring) -> Table:
    table = Table(
        "",
        "PSI",
        "by chance",
        "JS distance",
        "missing before",
        "now",
        "",
        title="against the training snapshot",
    )
    for one in (found.score, *found.features[:FEATURES_SHOWN]):
        shares = (f"{share:.1%}" for share in one.missing)
        numbers = (f"{number:.3f}" for number in (one.psi, one.by_chance, one.jsd))
        table.add_row(one.name, *numbers, *shares, one.state)
    return table


def _vintages(found: Monitoring) -> Table:
    table = Table(
        "month", "loans", "immature", "mature", "bad", "bad rate", "predicted", "ratio", title="vintages"
    )
    for one in found.vintages:
        counts = (one.loans, one.immature, one.mature, one.bads)
        ratio = _ranged(one.ratio, one.ratio_interval)
        table.add_row(one.month, *map(str, counts), _share(one.bad_rate), _share(one.predicted), ratio)
    return table


def _approvals(found: Monitoring) -> Table:
    table = Table("from", "decisions", "approved", "rate", "95 %", title="approvals")
    for one in found.approvals.periods:
        low, high = one.interval
        start = format_rfc3339(one.start)[:10]
        table.add_row(start, str(one.n), str(one.approved), f"{one.rate:.1%}", f"{low:.1%} to {high:.1%}")
    return table


def _segments(found: Monitoring) -> Table:
    columns = ("n", "approved", "PD", "score PSI", "mature", "bad", "predicted", "ratio")
    table = Table("segment", *columns, title="segments")
    for one in found.segments:
        score = "" if one.score_psi is None else f"{one.score_psi:.3f} {one.score_state}"
        known = (str(one.mature), str(one.bads), _share(one.predicted), _number(one.ratio))
        rates = (f"{one.approved / one.n:.1%}", f"{one.mean_pd:.3f}")
        table.add_row(f"{one.by} {one.value}", str(one.n), *rates, score, *known)
    return table


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _ranged(value: float | None, interval: tuple[float, float] | None) -> str:
    return (
        "" if value is None or interval is None else f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
