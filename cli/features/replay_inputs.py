"""Inputs of a replay: decisions without those of erased persons, and what the archive has of their items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from candor.decision import Decision
from candor.store.erasures import Tombstones
from cli.progress import Shown
from cli.stage import Stage
from history.archive.commits import COMMITS_PREFIX, CommitLog, read_log
from history.archive.events import EVENTS_PREFIX, arrivals, read_envelopes
from history.archive.items import Items, items_of
from history.replay.as_served import Kept, Replayed, application_of, keys_of, replay
from lender import DEFINITIONS

ERASED = "a person in it was erased since"


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
        self.kept = Kept(DEFINITIONS)
        keys = keys_of(decisions, self.kept)
        self.log: CommitLog = read_log(stage.archive(COMMITS_PREFIX), keys)
        envelopes = shown.each("reading events", read_envelopes(stage.archive(EVENTS_PREFIX)))
        self.items: Items = items_of(arrivals(envelopes, DEFINITIONS, ever=True), DEFINITIONS, keys)

    def replayed(self) -> Iterator[Replayed]:
        """As-served replay of every decision."""
        return replay(self.decisions, DEFINITIONS, self.log, self.items)
