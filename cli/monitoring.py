"""`candor models monitor`: served features, scores and outcomes beside what a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import click
from rich.console import Console
from rich.table import Table

from candor.clock import SystemClock, format_rfc3339
from candor.edge.telemetry import NAMESPACE
from candor.model.bundle import Bundle
from candor.model.packed import unpack
from candor.store.artifacts import newest_model, read_bundle, s3_client
from cli.options import Moment, Shown, common, one_line, print_json, print_pairs
from cli.stage import Stage
from history.archive import EVENTS_PREFIX, ArchiveDamaged, read_envelopes
from history.decisions import DECISIONS_PREFIX, read_decisions
from lender import DEFINITIONS
from training.dataset import DATASET, MANIFEST
from training.monitoring.monitor import Monitoring
from training.monitoring.population import Snapshot, snapshot_of
from training.monitoring.reading import Archived, report
from training.monitoring.signals import LIMITS, Signal, signals

SERVICE: Final = "monitor"
"""The dimension that tells these metrics from those of functions."""

CHAMPION: Final = "champion"
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
        cloudwatch: Any = boto3.client("cloudwatch")
        cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=list(metrics(found, stage.name)))
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
    shown.told("reading the snapshot", 0)
    bundle, snapshot = model_of(stage, run)
    decisions = shown.each("reading decisions", read_decisions(stage.archive(DECISIONS_PREFIX)))
    envelopes = shown.each("reading events", read_envelopes(stage.archive(EVENTS_PREFIX)))
    archived = Archived(decisions, envelopes)
    return report(bundle, DEFINITIONS, snapshot, archived, since=since, until=until)


def model_of(stage: Stage, run: str) -> tuple[Bundle, Snapshot]:
    """The bundle of a run, or the champion's, and the data set that it was trained on. Raises ClickException."""
    s3, training = s3_client(), stage.output("TrainingBucketName")
    if run == CHAMPION:
        sha = stage.registry.pointer().bundle
        if sha is None:
            raise click.ClickException("no model serves: retrain, or name a --run")
        known = stage.registry.registration(sha)
        bundle = Bundle.from_bytes(read_bundle(s3, stage.output("BundlesBucketName"), sha), sha)
        run = known.run if known else str(bundle.lineage.get("run"))
    else:
        bundle = unpack(newest_model(s3, f"s3://{training}/runs/{run}/model"))
    try:
        dataset, manifest = (
            s3.get_object(Bucket=training, Key=f"runs/{run}/dataset/{name}")["Body"].read()
            for name in (DATASET, MANIFEST)
        )
    except s3.exceptions.NoSuchKey:
        raise click.ClickException(
            f"run {run} has no data set any more (training_retention_days): retrain, or name another --run"
        ) from None
    return bundle, snapshot_of(run, dataset, manifest, bundle)


def metrics(found: Monitoring, stage: str) -> Iterator[dict[str, Any]]:
    """The report as CloudWatch's metric data: the watched signals, plain figures, and the PSI of every feature."""
    dimensions = [{"Name": "service", "Value": SERVICE}, {"Name": "stage", "Value": stage}]

    def datum(name: str, value: float, *more: dict[str, str], unit: str = "None") -> dict[str, Any]:
        return {"MetricName": name, "Dimensions": [*dimensions, *more], "Value": value, "Unit": unit}

    for signal in signals(found):
        yield datum(signal.name, signal.value)
    yield datum("DecisionsMonitored", found.population["decisions"], unit="Count")
    yield datum("DegradedShare", found.population["degraded_share"])
    yield datum("ScorePSI", found.score.psi)
    told = found.calibration
    if told is not None:
        yield datum("BadRateRatio", told.ratio)
        yield datum("CalibrationError", told.ece)
        if told.slope is not None:
            yield datum("CalibrationSlope", told.slope)
    for one in found.features:
        named = {"Name": "feature", "Value": one.name}
        yield datum("FeaturePSI", one.psi, named)
        yield datum("FeatureMissing", one.missing[1], named)


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
