"""Lookup of a decision and of the bundle that made it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from candor.decision import Decision, parse_record
from candor.errors import StoreUnavailable
from candor.store.dynamodb import DecisionReader
from candor.underwriting import LoadedBundle
from cli.archived_decisions import select_decisions
from cli.bundles import judge_named
from cli.output import one_line
from cli.progress import Progress
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.replay.as_served import KeptDefinitions
from lender import DEFINITIONS


def decision_of(stage: Stage, decision_id: str) -> Decision:
    """Decision from the table, or from the archive once it has expired there. Raises ClickException."""
    with Progress() as progress, one_line(ArchiveDamaged, StoreUnavailable, msgspec.ValidationError):
        stored = DecisionReader(stage.output("DecisionsTableName")).get(decision_id)
        return parse_record(stored.record) if stored else select_decisions(stage, progress, [decision_id])[0]


def judge_of(stage: Stage, decision: Decision) -> LoadedBundle | None:
    """Bundle that made a decision, by its hash; None if there was none. Raises BundleRefused, StoreUnavailable."""
    return None if decision.bundle is None else judge_named(stage, decision.bundle)


def features_of(decision: Decision, model: LoadedBundle | None) -> Sequence[str] | None:
    """Feature names of a record's values, from its bundle or the kept definitions; None if neither has them."""
    if model is not None:
        return model.bundle.features
    kept = KeptDefinitions(DEFINITIONS).served_by(decision)
    return kept.features if kept else None
