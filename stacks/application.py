"""The stacks of the app, created in the order of their dependencies."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk

from stacks.history import HistoryStack
from stacks.ingestion import IngestionStack
from stacks.observability import ObservabilityStack
from stacks.serving import ServingStack
from stacks.settings import StageSettings
from stacks.storage import StorageStack
from stacks.training import TrainingStack


@dataclass(frozen=True, kw_only=True)
class StageApplication:
    """The stacks of one stage, and the settings they were built from."""

    settings: StageSettings
    storage: StorageStack
    ingestion: IngestionStack
    history: HistoryStack
    serving: ServingStack
    training: TrainingStack
    observability: ObservabilityStack


def build(app: cdk.App) -> StageApplication:
    """Add the stacks of the stage named by the context (`-c stage=…`, dev by default)."""
    stage = app.node.try_get_context("stage") or "dev"
    settings = StageSettings.from_context(app.node.try_get_context("stages"), stage)
    cdk.Tags.of(app).add("candor:stage", stage)
    storage = StorageStack(app, settings)
    ingestion = IngestionStack(app, settings, storage=storage)
    history = HistoryStack(app, settings, storage=storage, ingestion=ingestion)
    serving = ServingStack(app, settings, storage=storage, ingestion=ingestion)
    training = TrainingStack(app, settings, storage=storage)
    observability = ObservabilityStack(
        app,
        settings,
        storage=storage,
        ingestion=ingestion,
        history=history,
        serving=serving,
        training=training,
    )
    return StageApplication(
        settings=settings,
        storage=storage,
        ingestion=ingestion,
        history=history,
        serving=serving,
        training=training,
        observability=observability,
    )
