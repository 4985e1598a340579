"""`candor decisions rescore`: rescore archived decisions with one bundle and one table, a Parquet row each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import boto3
import click

from candor.clock import DAY, SystemClock, format_rfc3339
from candor.registry.artifacts import read_bundle, s3_client
from cli.archived_decisions import select_decisions
from cli.bundles import resolve_bundle
from cli.decision_tables import TABLE_FILE, read_faultless
from cli.options import common, interval
from cli.output import one_line, print_json, print_pairs
from cli.progress import Progress
from cli.stage import Stage
from cli.state_machine import RunFailed, begin, failure_reason, watch
from history.archive.decisions import DECISIONS_PREFIX
from history.archive.events import ArchiveDamaged
from history.rescore.rescoring import PART, Rescored, RescoringCandidate, counted, rescore

RESCORED: Final = "rescored"
"""Prefix in the training bucket of every rescoring's rows, each under its name."""

LATER_DAYS: Final = 1
"""Days after which a day's decisions are all in the archive; decisions of replayed days aside."""

_NAME: Final = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,29}")

_DAY: Final = re.compile(rf"^{DECISIONS_PREFIX}(\d{{4}})/(\d{{2}})/(\d{{2}})/")


class RescoreRequest(NamedTuple):
    """Candidate (bundle, table) and the decisions to rescore; moments in ms UTC."""

    bundle: bytes
    policy: dict[str, Any] | None
    since: int | None
    until: int | None
    last: int | None


@click.command("rescore")
@click.option("--bundle", required=True, help="Model to score with: its name or a unique prefix.")
@click.option(
    "--policy",
    "file",
    type=TABLE_FILE,
    help="Decision table. Default: the bundle's own.",
)
@click.option("--name", help="Name of the rescoring; the same name resumes it. Default: from the time.")
@click.option("--here", is_flag=True, help="Rescore on this machine instead of in one job per day.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="rescored",
    show_default=True,
    help="Folder for the rows.",
)
@interval
@common
def rescore_command(
    bundle: str,
    file: Path | None,
    name: str | None,
    out: Path,
    stage: Stage,
    *,
    here: bool,
    as_json: bool,
    **made: int | None,
) -> None:
    """Rescore archived decisions with a bundle and a table; one Parquet row per decision.

    On AWS one job runs for each day of the archive, in parallel; finished days are not repeated. Nothing that
    serves changes, and no column identifies a person.
    """
    run_name = name or "rescore-" + re.sub(r"[-:]|\..*", "", format_rfc3339(SystemClock().now_ms())).lower()
    if not _NAME.fullmatch(run_name):
        raise click.UsageError("--name: use up to 30 letters, digits and single hyphens")
    if made["last"] is not None and not here:
        raise click.UsageError("--last needs --here: a job sees one day alone")
    sha = resolve_bundle(stage, bundle)
    data = read_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    request = RescoreRequest(data, read_faultless(file) if file else None, **made)
    folder = out / run_name
    result = _here(stage, request, folder) if here else _by_jobs(stage, run_name, request, folder)
    summary = {"name": run_name, "bundle": sha, **result.as_json(), "folder": str(folder.resolve())}
    if as_json:
        print_json(summary)
    else:
        swaps, left = summary.pop("swaps"), summary.pop("left_out")
        print_pairs({**summary, **swaps, **{f"left out: {why}": number for why, number in left.items()}})


def _here(stage: Stage, request: RescoreRequest, folder: Path) -> Rescored:
    candidate = RescoringCandidate.of(request.bundle, request.policy)
    with Progress() as progress, one_line(ArchiveDamaged):
        decisions = select_decisions(
            stage, progress, since=request.since, until=request.until, last=request.last
        )
        return rescore(progress.each("judging", decisions, len(decisions)), candidate, folder / PART)


def _by_jobs(stage: Stage, name: str, request: RescoreRequest, folder: Path) -> Rescored:
    s3, bucket = s3_client(), stage.output("TrainingBucketName")
    prefix = f"{RESCORED}/{name}"
    s3.put_object(Bucket=bucket, Key=f"{prefix}/order/bundle.json", Body=request.bundle)
    if request.policy is not None:
        body = json.dumps(request.policy).encode()
        s3.put_object(Bucket=bucket, Key=f"{prefix}/order/policy.json", Body=body)
    days = days_of(stage.archive(DECISIONS_PREFIX).names(), request.since, request.until)
    if not days:
        raise click.ClickException("no decision is in the archive for these moments: widen --since")
    rows = DayFiles(s3, bucket, prefix)
    missing = [day for day in days if day not in rows.days()]
    if missing:
        _run(stage, name, request, missing)
    with Progress() as progress:
        return counted(progress.each("fetching", rows.download(days, folder), len(days)))


def _run(stage: Stage, name: str, request: RescoreRequest, days: Sequence[str]) -> None:
    """Start the state machine for these days and wait for its end."""
    archive, training = stage.output("ArchiveBucketName"), stage.output("TrainingBucketName")
    machine, states = stage.output("RescoreStateMachineArn"), boto3.client("stepfunctions")
    moment = format(SystemClock().now_ms() // 1_000, "x")  # a job's name is used once
    uri = f"s3://{training}/{RESCORED}/{name}"
    items = [
        {
            "job": f"candor-{stage.name}-{name}-{day.replace('-', '')}-{moment}",
            "decisions_uri": f"s3://{archive}/{DECISIONS_PREFIX}{day.replace('-', '/')}/",
            "order_uri": f"{uri}/order/",
            "rescored_uri": f"{uri}/day={day}",
            "arguments": _arguments(request),
        }
        for day in days
    ]
    started = begin(states, machine, {"run": f"{name}.{moment}", "days": items})
    ended = watch(states, started)
    if ended["status"] != "SUCCEEDED":
        why = failure_reason(states, started.arn)
        raise RunFailed(
            f"rescoring {name} ended {ended['status']}: {why}; the same command with --name {name} goes on"
        )


def _arguments(request: RescoreRequest) -> list[str]:
    moments = {"--since": request.since, "--until": request.until}
    # SageMaker refuses an empty list of arguments.
    given = [f"{option}={moment}" for option, moment in moments.items() if moment is not None]
    return given or ["--since=0"]


class DayFiles:
    """Files of a rescoring in the training bucket, one for each day."""

    def __init__(self, s3: Any, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, prefix

    def days(self) -> set[str]:
        """Days that are done."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}/day="
        )
        keys = [listed_object["Key"] for page in pages for listed_object in page.get("Contents", ())]
        return {key.split("day=")[1].partition("/")[0] for key in keys if key.endswith(PART)}

    def download(self, days: Sequence[str], folder: Path) -> Any:
        """Download each day's file into the folder under the same name; yields the paths."""
        for day in days:
            path = folder / f"day={day}" / PART
            path.parent.mkdir(parents=True, exist_ok=True)
            body = self._s3.get_object(Bucket=self._bucket, Key=f"{self._prefix}/day={day}/{PART}")["Body"]
            path.write_bytes(body.read())
            yield path


def days_of(keys: Sequence[str], since: int | None, until: int | None) -> list[str]:
    """Days of the archive, as 2026-11-24, that may hold decisions made in the interval (ms UTC)."""
    days = dict.fromkeys("-".join(day.groups()) for key in keys if (day := _DAY.match(key)))
    first = format_rfc3339(since)[:10] if since is not None else ""
    after = format_rfc3339(until + LATER_DAYS * DAY)[:10] if until is not None else "9"
    return [day for day in days if first <= day <= after]
