"""`candor features replay`: recompute decisions' vectors bit for bit from the archive and the log of commits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from candor.features.definitions import Definitions
from candor.features.units import units
from candor.features.vector import FeatureVector
from candor.store.erasures import Erasures
from candor.units import UNKNOWN, exact
from cli.archived_decisions import select_decisions
from cli.features.replay_inputs import ERASED, ReplayInputs, without_erased
from cli.options import common, interval
from cli.output import one_line, print_json, print_pairs
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.replay.as_served import KeptDefinitions, Replayed
from lender import DEFINITIONS

NAMED = 20
"""Most differing decisions that are named."""


@click.command("replay")
@click.argument("decision_ids", metavar="[DECISION_ID]...", nargs=-1)
@interval
@common
def replay_command(
    decision_ids: tuple[str, ...],
    since: int | None,
    until: int | None,
    last: int | None,
    stage: Stage,
    *,
    as_json: bool,
) -> None:
    """Recompute decisions' feature vectors from the archive, and compare them bit for bit with the served ones.

    Without DECISION_ID all archived decisions are replayed, or those that the options select. With DECISION_ID
    every feature is printed as served and as replayed. A decision reaches the archive within minutes.

    Exit code 1 if anything differs.
    """
    with Progress() as progress, one_line(ArchiveDamaged):
        decisions = select_decisions(stage, progress, decision_ids, since, until, last)
        living, erased = without_erased(decisions, Erasures(stage.output("RegistryTableName")).tombstones())
        inputs = ReplayInputs(stage, living, progress)
        replayed = progress.each("replaying", inputs.replayed(), len(living))
        report = ReplayReport(decision_ids)
        report.add(replayed, erased)
    if as_json:
        print_json(report.as_json())
    else:
        report.print()
    if report.different:
        raise click.ClickException(f"{len(report.different)} decisions differ from what was served")


class ReplayReport:
    """Report of a replay, with every feature of the decisions given by id."""

    def __init__(self, named: Collection[str]) -> None:
        self._named = named
        self.exact = 0
        self.different: list[Replayed] = []
        self.reasons: Counter[str] = Counter()
        self._details: list[Replayed] = []

    def add(self, replays: Iterable[Replayed], erased: int) -> None:
        """Add results, and the number of decisions left out as erased."""
        for replayed in replays:
            if replayed.reason:
                self.reasons[replayed.reason] += 1
            elif replayed.differences:
                self.different.append(replayed)
            else:
                self.exact += 1
            if replayed.decision.id in self._named:
                self._details.append(replayed)
        if erased:
            self.reasons[ERASED] += erased

    def _summary(self) -> dict[str, int]:
        total = self.exact + len(self.different) + self.reasons.total()
        return {"decisions": total, "exact": self.exact, "different": len(self.different)}

    def as_json(self) -> dict[str, Any]:
        """JSON form; a feature that is NaN is null."""
        return {
            **self._summary(),
            "not_replayable": dict(self.reasons),
            "differing": [
                {
                    "id": replayed.decision.id,
                    "differences": [difference._asdict() for difference in replayed.differences],
                }
                for replayed in self.different[:NAMED]
            ],
            "named": [_detail_json(replayed) for replayed in self._details],
        }

    def print(self) -> None:
        """Print the report as tables."""
        reasons = {f"not replayable: {reason}": count for reason, count in self.reasons.items()}
        print_pairs(self._summary() | reasons)
        for replayed in self._details:
            _print_detail(replayed)
        for replayed in self.different[:NAMED]:
            if replayed.decision.id not in self._named:
                print_pairs(
                    {replayed.decision.id: ", ".join(difference.name for difference in replayed.differences)}
                )


def _detail_json(replayed: Replayed) -> dict[str, Any]:
    decision = replayed.decision
    rows = _rows(decision.vector, replayed.vector, KeptDefinitions(DEFINITIONS).served_by(decision))
    return {
        "id": decision.id,
        "q": decision.q,
        "reason": replayed.reason,
        "features": [
            {"name": name, "served": _plain(served), "replayed": _plain(now)} for name, served, now in rows
        ],
    }


def _print_detail(replayed: Replayed) -> None:
    table = Table("feature", "served", "replayed", "", title=replayed.decision.id)
    rows = _rows(
        replayed.decision.vector, replayed.vector, KeptDefinitions(DEFINITIONS).served_by(replayed.decision)
    )
    by_name = units(DEFINITIONS)
    for name, served, now in rows:
        same = replayed.vector is None or served.hex() == now.hex()
        unit = by_name.get(name, UNKNOWN)
        table.add_row(
            name,
            exact(served, unit),
            exact(now, unit) if replayed.vector else "not replayable",
            "" if same else "differs",
        )
    Console().print(table)


def _rows(
    served: FeatureVector, replayed: FeatureVector | None, definitions: Definitions | None
) -> list[tuple[str, float, float]]:
    """Name, value served and value replayed; NaN where there is none."""
    if definitions is None:
        return []
    now = replayed.values if replayed else [math.nan] * len(served.values)
    return list(zip(definitions.features, served.values, now, strict=True))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
