"""`candor features replay`: decisions' vectors again, bit for bit, from the archive and the log of commits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from candor.decision import Decision
from candor.features.definitions import Definitions
from candor.features.vector import FeatureVector
from candor.store.erasures import Erasures, Tombstones
from cli.options import Shown, common, interval, one_line, print_json, print_pairs
from cli.stage import Stage
from history.archive.commits import COMMITS_PREFIX, CommitLog, read_log
from history.archive.decisions import DECISIONS_PREFIX, made_at, read_decisions
from history.archive.events import EVENTS_PREFIX, ArchiveDamaged, arrivals, read_envelopes
from history.archive.items import Items, items_of
from history.replay.as_served import KeptDefinitions, Replayed, application_of, keys_of, replay
from lender import DEFINITIONS

ERASED = "a person in it was erased since"
NAMED = 20
"""So many decisions that differ are named."""


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
    """Compute decisions' vectors again from the archive, and compare them with what was served, bit for bit.

    Without DECISION_ID all decisions of the archive are taken, or those that the options choose. With one, every feature is
    printed as it was served and as it is now. A decision reaches the archive within minutes.

    Exit code 1 if anything differs.
    """
    with Shown() as shown, one_line(ArchiveDamaged):
        decisions = chosen(stage, shown, decision_ids, since, until, last)
        living, erased = without_erased(decisions, Erasures(stage.output("RegistryTableName")).tombstones())
        past = Past(stage, living, shown)
        found = shown.each("replaying", past.replayed(), len(living))
        told = Told(decision_ids)
        told.take_in(found, erased)
    if as_json:
        print_json(told.as_json())
    else:
        told.print()
    if told.different:
        raise click.ClickException(f"{len(told.different)} decisions differ from what was served")


def chosen(
    stage: Stage,
    shown: Shown,
    ids: Collection[str] = (),
    since: int | None = None,
    until: int | None = None,
    last: int | None = None,
) -> list[Decision]:
    """Archived decisions by id or by when they were made, oldest first. Raises ClickException for an unknown id."""
    read = shown.each("reading decisions", read_decisions(stage.archive(DECISIONS_PREFIX)))
    found = [
        one
        for one in read
        if (not ids or one.id in ids)
        and (since is None or _moment(one) >= since)
        and (until is None or _moment(one) < until)
    ]
    missing = set(ids) - {one.id for one in found}
    if missing:
        raise click.ClickException(
            f"not in the archive: {', '.join(sorted(missing))}; a decision reaches it within minutes"
        )
    found.sort(key=_moment)
    return found[-last:] if last else found


def _moment(decision: Decision) -> int:
    found = made_at(decision)
    return decision.q if found is None else found


def without_erased(decisions: Sequence[Decision], tombstones: Tombstones) -> tuple[list[Decision], int]:
    """The decisions that can be shown again, and how many cannot: a person they name was erased since."""
    living = [one for one in decisions if not tombstones.touch(_entities(one), one.q)]
    return living, len(decisions) - len(living)


def _entities(decision: Decision) -> dict[str, str]:
    application = application_of(decision)
    named = {name: entity.key_of(application) for name, entity in DEFINITIONS.entities.items()}
    return {name: token for name, token in named.items() if token is not None}


class Past:
    """What the archive tells of the items that decisions asked for, and of no others."""

    def __init__(self, stage: Stage, decisions: Sequence[Decision], shown: Shown) -> None:
        self.decisions = decisions
        self.kept = KeptDefinitions(DEFINITIONS)
        keys = keys_of(decisions, self.kept)
        self.log: CommitLog = read_log(stage.archive(COMMITS_PREFIX), keys)
        envelopes = shown.each("reading events", read_envelopes(stage.archive(EVENTS_PREFIX)))
        self.items: Items = items_of(arrivals(envelopes, DEFINITIONS, ever=True), DEFINITIONS, keys)

    def replayed(self) -> Iterator[Replayed]:
        """As-served replay of every decision."""
        return replay(self.decisions, DEFINITIONS, self.log, self.items)


class Told:
    """What became of the replay; of the decisions that were asked for by name, all of it."""

    def __init__(self, named: Collection[str]) -> None:
        self._named = named
        self.exact = 0
        self.different: list[Replayed] = []
        self.reasons: Counter[str] = Counter()
        self._details: list[Replayed] = []

    def take_in(self, found: Iterable[Replayed], erased: int) -> None:
        """Count them."""
        for one in found:
            if one.reason:
                self.reasons[one.reason] += 1
            elif one.differences:
                self.different.append(one)
            else:
                self.exact += 1
            if one.decision.id in self._named:
                self._details.append(one)
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
                {"id": one.decision.id, "differences": [each._asdict() for each in one.differences]}
                for one in self.different[:NAMED]
            ],
            "named": [_detail(one) for one in self._details],
        }

    def print(self) -> None:
        """The same as tables."""
        reasons = {f"not replayable: {reason}": count for reason, count in self.reasons.items()}
        print_pairs(self._summary() | reasons)
        for one in self._details:
            _print_detail(one)
        for one in self.different[:NAMED]:
            if one.decision.id not in self._named:
                print_pairs({one.decision.id: ", ".join(each.name for each in one.differences)})


def _detail(one: Replayed) -> dict[str, Any]:
    decision = one.decision
    rows = _rows(decision.vector, one.vector, KeptDefinitions(DEFINITIONS).served_by(decision))
    return {
        "id": decision.id,
        "q": decision.q,
        "reason": one.reason,
        "features": [
            {"name": name, "served": _plain(served), "replayed": _plain(now)} for name, served, now in rows
        ],
    }


def _print_detail(one: Replayed) -> None:
    table = Table("feature", "served", "replayed", "", title=one.decision.id)
    rows = _rows(one.decision.vector, one.vector, KeptDefinitions(DEFINITIONS).served_by(one.decision))
    for name, served, now in rows:
        same = one.vector is None or served.hex() == now.hex()
        table.add_row(name, f"{served:.12g}", f"{now:.12g}" if one.vector else "-", "" if same else "differs")
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
