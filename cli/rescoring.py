"""`candor decisions rescore`: a past population judged again by one bundle and one table, a Parquet row a decision."""

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
from cli.model_reports import named_bundle
from cli.options import Shown, common, interval, one_line, print_json, print_pairs
from cli.policy import read_faultless
from cli.replaying import chosen
from cli.retraining import RetrainingFailed, begin, reason, watched
from cli.stage import Stage
from history.archive.decisions import DECISIONS_PREFIX
from history.archive.events import ArchiveDamaged
from history.rescore.rescoring import PART, Rescored, RescoringCandidate, counted, rescore

RESCORED: Final = "rescored"
"""Where in the training bucket the rows of every rescoring lie, each below its name."""

LATER_DAYS: Final = 1
"""A decision of replayed days aside, what was made on one day has reached the archive by the end of the next."""

_NAME: Final = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,29}")
_DAY: Final = re.compile(rf"^{DECISIONS_PREFIX}(\d{{4}})/(\d{{2}})/(\d{{2}})/")


class Wanted(NamedTuple):
    """What is judged again, and by what: files, and moments in ms UTC."""

    bundle: bytes
    policy: dict[str, Any] | None
    since: int | None
    until: int | None
    last: int | None


@click.command("rescore")
@click.option("--bundle", required=True, help="The model to score with, by the first letters of its name.")
@click.option(
    "--policy",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The table that decides. Default: the bundle's own.",
)
@click.option("--name", help="Name of the rescoring; the same name goes on. Default: by the time.")
@click.option("--here", is_flag=True, help="Judge on this machine instead of by a job for each day.")
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
    """Score and decide archived decisions again with a bundle and a table; one Parquet row a decision.

    On AWS one job for each day of the archive, side by side; days that are done are not done twice.
    Nothing that serves changes, and no column names a person.
    """
    called = name or "rescore-" + re.sub(r"[-:]|\..*", "", format_rfc3339(SystemClock().now_ms())).lower()
    if not _NAME.fullmatch(called):
        raise click.UsageError("--name: use up to 30 letters, digits and single hyphens")
    if made["last"] is not None and not here:
        raise click.UsageError("--last needs --here: a job sees one day alone")
    sha = named_bundle(stage, bundle)
    data = read_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    wanted = Wanted(data, read_faultless(file) if file else None, **made)
    folder = out / called
    told = _here(stage, wanted, folder) if here else _by_jobs(stage, called, wanted, folder)
    found = {"name": called, "bundle": sha, **told.as_json(), "folder": str(folder.resolve())}
    if as_json:
        print_json(found)
    else:
        swaps, left = found.pop("swaps"), found.pop("left_out")
        print_pairs({**found, **swaps, **{f"left out: {why}": number for why, number in left.items()}})


def _here(stage: Stage, wanted: Wanted, folder: Path) -> Rescored:
    candidate = RescoringCandidate.of(wanted.bundle, wanted.policy)
    with Shown() as shown, one_line(ArchiveDamaged):
        found = chosen(stage, shown, since=wanted.since, until=wanted.until, last=wanted.last)
        return rescore(shown.each("judging", found, len(found)), candidate, folder / PART)


def _by_jobs(stage: Stage, name: str, wanted: Wanted, folder: Path) -> Rescored:
    s3, bucket = s3_client(), stage.output("TrainingBucketName")
    place = f"{RESCORED}/{name}"
    s3.put_object(Bucket=bucket, Key=f"{place}/order/bundle.json", Body=wanted.bundle)
    if wanted.policy is not None:
        body = json.dumps(wanted.policy).encode()
        s3.put_object(Bucket=bucket, Key=f"{place}/order/policy.json", Body=body)
    days = days_of(stage.archive(DECISIONS_PREFIX).names(), wanted.since, wanted.until)
    if not days:
        raise click.ClickException("no decision is in the archive for these moments: widen --since")
    rows = Parts(s3, bucket, place)
    left = [day for day in days if day not in rows.days()]
    if left:
        _run(stage, name, wanted, left)
    with Shown() as shown:
        return counted(shown.each("fetching", rows.fetched(days, folder), len(days)))


def _run(stage: Stage, name: str, wanted: Wanted, days: Sequence[str]) -> None:
    """Start the state machine for these days and wait for its end."""
    archive, training = stage.output("ArchiveBucketName"), stage.output("TrainingBucketName")
    machine, states = stage.output("RescoreStateMachineArn"), boto3.client("stepfunctions")
    moment = format(SystemClock().now_ms() // 1_000, "x")  # a job's name is used once
    place = f"s3://{training}/{RESCORED}/{name}"
    items = [
        {
            "job": f"candor-{stage.name}-{name}-{day.replace('-', '')}-{moment}",
            "decisions_uri": f"s3://{archive}/{DECISIONS_PREFIX}{day.replace('-', '/')}/",
            "order_uri": f"{place}/order/",
            "rescored_uri": f"{place}/day={day}",
            "arguments": _arguments(wanted),
        }
        for day in days
    ]
    started = begin(states, machine, {"run": f"{name}.{moment}", "days": items})
    ended = watched(states, started)
    if ended["status"] != "SUCCEEDED":
        why = reason(states, started.arn)
        raise RetrainingFailed(
            f"rescoring {name} ended {ended['status']}: {why}; the same command with --name {name} goes on"
        )


def _arguments(wanted: Wanted) -> list[str]:
    moments = {"--since": wanted.since, "--until": wanted.until}
    # SageMaker refuses an empty list of arguments.
    given = [f"{option}={moment}" for option, moment in moments.items() if moment is not None]
    return given or ["--since=0"]


class Parts:
    """The rows of a rescoring in the training bucket, a file for each day."""

    def __init__(self, s3: Any, bucket: str, place: str) -> None:
        self._s3, self._bucket, self._place = s3, bucket, place

    def days(self) -> set[str]:
        """Those that are done."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._place}/day="
        )
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return {key.split("day=")[1].partition("/")[0] for key in keys if key.endswith(PART)}

    def fetched(self, days: Sequence[str], folder: Path) -> Any:
        """Each day's file, copied into the folder under the same name."""
        for day in days:
            path = folder / f"day={day}" / PART
            path.parent.mkdir(parents=True, exist_ok=True)
            body = self._s3.get_object(Bucket=self._bucket, Key=f"{self._place}/day={day}/{PART}")["Body"]
            path.write_bytes(body.read())
            yield path


def days_of(keys: Sequence[str], since: int | None, until: int | None) -> list[str]:
    """Days of the archive, as 2026-11-24, that may hold decisions made in the interval (ms UTC)."""
    found = dict.fromkeys("-".join(day.groups()) for key in keys if (day := _DAY.match(key)))
    first = format_rfc3339(since)[:10] if since is not None else ""
    after = format_rfc3339(until + LATER_DAYS * DAY)[:10] if until is not None else "9"
    return [day for day in found if first <= day <= after]
