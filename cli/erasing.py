"""`candor features erase`: a person removed from views, archive and training data, and what is kept told."""

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
from cli.options import Shown, common, one_line, print_json, token_of
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.erasure.job import ErasureJob, StageLocations, Survey
from history.erasure.lines import Person
from history.index.bucket import Vanished
from lender import DEFINITIONS


@click.command("erase")
@click.option("--entity", required=True, help="kind:token, as customer:cus_1; customer:- asks for the token.")
@click.option("--reason", default="", help="Kept with the tombstone; no personal data, please.")
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--again", is_flag=True, help="Erase what came after an earlier erasure, too.")
@click.option("--scan", is_flag=True, help="Read the feature tables whole, for items that no log names.")
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
    """Remove a person from every view, the archive and the training data, for good.

    Decisions are kept until they expire: the law wants them shown. Stop it anywhere and start it again. Run it once more
    when the report says so: copies that were in a queue may have reached the archive meanwhile.
    """
    person = _person(entity)
    erasing = _erasing(person, stage)
    with one_line(ArchiveDamaged), Shown() as shown:
        survey = erasing.survey(shown.told, again=again, scan=scan)
    if dry_run:
        _print(_surveyed(survey), as_json=as_json)
        return
    if not survey.nothing_left and survey.named:
        _refuse_while_training(stage)
        if not yes:
            _ask(survey, person.kind, as_json=as_json)
    with one_line(ArchiveDamaged, Vanished), Shown() as shown:
        report = erasing.erase(survey, reason, shown.told)
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
    """A retraining under way has read the archive: its data set would bring the person back."""
    machine = stage.output("RetrainStateMachineArn")
    running = boto3.client("stepfunctions").list_executions(
        stateMachineArn=machine, statusFilter="RUNNING", maxResults=1
    )
    if running["executions"]:
        raise click.ClickException(
            "a retraining is running and would write what it has read: run this when it is over"
        )


def _ask(survey: Survey, kind: str, *, as_json: bool) -> None:
    if not as_json:
        _print(_surveyed(survey), as_json=False)
    click.confirm(f"Erase this {kind} for good?", abort=True, err=True)


def _surveyed(survey: Survey) -> dict[str, Any]:
    return {"found_now": not survey.nothing_left, "places": survey.places}


def _print(found: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    table = Table("where", "found", "rewritten", "deleted", "kept")
    for place in found["places"]:
        numbers = (str(place[name]) for name in ("found", "rewritten", "deleted", "kept"))
        table.add_row(place["name"], *numbers)
    console = Console()
    console.print(table)
    for place in found["places"]:
        if notes := "; ".join(_notes(place)):
            console.print(f"{place['name']}: {notes}")
    if not found["found_now"]:
        console.print("Nothing is left to erase.")
    if "again_after" in found:
        erased_at, again = format_rfc3339(found["erased_at"]), format_rfc3339(found["again_after"])
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
