"""Inputs of a replay: decisions of persons not erased, and the archived commits and items behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from candor.decision import Decision
from candor.store.erasures import Tombstones
from cli.progress import Progress
from cli.stage import Stage
from history.archive.commits import COMMITS_PREFIX, CommitLog, read_log
from history.archive.events import EVENTS_PREFIX, arrivals, read_envelopes
from history.archive.items import Items, items_of
from history.replay.as_served import KeptDefinitions, Replayed, application_of, keys_of, replay
from lender import DEFINITIONS

ERASED = "a person in it was erased since"


def without_erased(decisions: Sequence[Decision], tombstones: Tombstones) -> tuple[list[Decision], int]:
    """Decisions that can be replayed, and the number of those that name a person erased since."""
    living = [decision for decision in decisions if not tombstones.touch(_entities(decision), decision.q)]
    return living, len(decisions) - len(living)


def _entities(decision: Decision) -> dict[str, str]:
    application = application_of(decision)
    named = {name: entity.key_of(application) for name, entity in DEFINITIONS.entities.items()}
    return {name: token for name, token in named.items() if token is not None}


class ReplayInputs:
    """Commits and items of the archive that these decisions read, and no others."""

    def __init__(self, stage: Stage, decisions: Sequence[Decision], progress: Progress) -> None:
        self.decisions = decisions
        self.kept = KeptDefinitions(DEFINITIONS)
        keys = keys_of(decisions, self.kept)
        self.log: CommitLog = read_log(stage.archive(COMMITS_PREFIX), keys)
        envelopes = progress.each("reading events", read_envelopes(stage.archive(EVENTS_PREFIX)))
        self.items: Items = items_of(arrivals(envelopes, DEFINITIONS, ever=True), DEFINITIONS, keys)

    def replayed(self) -> Iterator[Replayed]:
        """As-served replay of every decision."""
        return replay(self.decisions, DEFINITIONS, self.log, self.items)
