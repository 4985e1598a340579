"""`candor features erase`: erase a person from views, archive and training data, and report what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import boto3
import click
from rich.console import Console
from rich.table import Table

from candor.clock import SystemClock, format_rfc3339
from candor.errors import DefinitionError
from candor.registry.imports import Imports
from cli.options import common, token_of
from cli.output import one_line, print_json
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.erasure.job import ErasureJob, StageLocations, Survey
from history.erasure.lines import Person
from history.index.bucket import Vanished
from lender import DEFINITIONS


@click.command("erase")
@click.option(
    "--entity", required=True, help="kind:token, as customer:cus_1; customer:- prompts for the token."
)
@click.option("--reason", default="", help="Kept with the tombstone; no personal data, please.")
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--again", is_flag=True, help="Also erase what arrived after an earlier erasure.")
@click.option("--scan", is_flag=True, help="Scan the feature tables, for items that no log names.")
@common
def erase_command(
    entity: str,
    reason: str,
    stage: Stage,
    *,
    dry_run: bool,
    yes: bool,
    again: bool,
    scan: bool,
    as_json: bool,
) -> None:
    """Remove a person permanently from every view, the archive and the training data.

    Decisions are kept until they expire, as the law requires. It may be stopped and restarted at any point. Run it
    again when the report says so: queued copies may have reached the archive meanwhile.
    """
    person = _person(entity)
    erasing = _erasing(person, stage)
    with one_line(ArchiveDamaged), Progress() as progress:
        survey = erasing.survey(progress.update, again=again, scan=scan)
    if dry_run:
        _print(_survey_json(survey), as_json=as_json)
        return
    if not survey.nothing_left and survey.named:
        _refuse_while_training(stage)
        _refuse_while_importing(stage)
        if not yes:
            _ask(survey, person.kind, as_json=as_json)
    with one_line(ArchiveDamaged, Vanished), Progress() as progress:
        report = erasing.erase(survey, reason, progress.update)
    _print(asdict(report), as_json=as_json)


def _person(entity: str) -> Person:
    kind, _, token = entity.partition(":")
    if kind not in DEFINITIONS.entities or not token:
        raise DefinitionError(f"give --entity kind:token, of one of {', '.join(DEFINITIONS.entities)}")
    return Person(kind, token_of(token))


def _erasing(person: Person, stage: Stage) -> ErasureJob:
    places = StageLocations(
        features=stage.output("FeaturesTableName"),
        synchronous=stage.output("SynchronousFeaturesTableName"),
        decisions=stage.output("DecisionsTableName"),
        registry=stage.output("RegistryTableName"),
        archive=stage.output("ArchiveBucketName"),
        training=stage.output("TrainingBucketName"),
    )
    return ErasureJob(person, DEFINITIONS, places, stage.retention, SystemClock(), boto3.client("s3"))


def _refuse_while_training(stage: Stage) -> None:
    """Raise ClickException while a retraining runs: its data set would contain the person again."""
    machine = stage.output("RetrainStateMachineArn")
    running = boto3.client("stepfunctions").list_executions(
        stateMachineArn=machine, statusFilter="RUNNING", maxResults=1
    )
    if running["executions"]:
        raise click.ClickException(
            "a retraining is running and would write what it has read: run this when it is over"
        )


def _refuse_while_importing(stage: Stage) -> None:
    """Raise ClickException while an import is unfinished: it would apply again what it has read."""
    run = Imports(stage.output("RegistryTableName")).unfinished()
    if run is not None:
        raise click.ClickException(f"import {run.id} is unfinished: end it first, then run this")


def _ask(survey: Survey, kind: str, *, as_json: bool) -> None:
    if not as_json:
        _print(_survey_json(survey), as_json=False)
    click.confirm(f"Erase this {kind} for good?", abort=True, err=True)


def _survey_json(survey: Survey) -> dict[str, Any]:
    return {"found_now": not survey.nothing_left, "places": survey.places}


def _print(report: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    table = Table("where", "found", "rewritten", "deleted", "kept")
    for place in report["places"]:
        numbers = (str(place[name]) for name in ("found", "rewritten", "deleted", "kept"))
        table.add_row(place["name"], *numbers)
    console = Console()
    console.print(table)
    for place in report["places"]:
        if notes := "; ".join(_notes(place)):
            console.print(f"{place['name']}: {notes}")
    if not report["found_now"]:
        console.print("Nothing is left to erase.")
    if "again_after" in report:
        erased_at, again = format_rfc3339(report["erased_at"]), format_rfc3339(report["again_after"])
        console.print(f"Erased: all before {erased_at}. Run it once more after {again}.")


def _notes(place: Mapping[str, Any]) -> Iterator[str]:
    if place["why"] and place["found"]:
        yield place["why"]
    if place["kept"]:
        until = place["until"]
        yield (
            "nothing makes them expire" if until is None else f"the last expires {format_rfc3339(until)[:10]}"
        )
    if place["old_versions"]:
        yield f"{place['old_versions']} old versions of objects go as well"
