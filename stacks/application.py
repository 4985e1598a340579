"""The app's stacks, wired in the order in which they depend on each other."""

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
class Application:
    """The stacks of one stage, and what they were built from."""

    settings: StageSettings
    storage: StorageStack
    ingestion: IngestionStack
    history: HistoryStack
    serving: ServingStack
    training: TrainingStack
    observability: ObservabilityStack


def build(app: cdk.App) -> Application:
    """Add the stacks of the stage that the context names (`-c stage=…`, dev without it)."""
    stage = app.node.try_get_context("stage") or "dev"
    settings = StageSettings.from_context(app.node.try_get_context("stages"), stage)
    cdk.Tags.of(app).add("candor:stage", stage)
    # Every stack whose loss is felt: the API's address and the queues are state as well. Alarms are made again.
    protect = settings.termination_protection

    def named(unit: str) -> str:
        return f"candor-{stage}-{unit}"

    storage = StorageStack(app, named("storage"), settings=settings, termination_protection=protect)
    ingestion = IngestionStack(
        app, named("ingestion"), settings=settings, storage=storage, termination_protection=protect
    )
    history = HistoryStack(
        app,
        named("history"),
        settings=settings,
        storage=storage,
        ingestion=ingestion,
        termination_protection=protect,
    )
    serving = ServingStack(
        app,
        named("serving"),
        settings=settings,
        storage=storage,
        ingestion=ingestion,
        termination_protection=protect,
    )
    training = TrainingStack(
        app, named("training"), settings=settings, storage=storage, termination_protection=protect
    )
    observability = ObservabilityStack(
        app,
        named("observability"),
        settings=settings,
        storage=storage,
        ingestion=ingestion,
        history=history,
        serving=serving,
        training=training,
    )
    for stack in (storage, ingestion, history, serving, training, observability):
        # CDK names the role of every function as a dependency once more; that is no finding.
        stack.template_options.metadata = {"cfn-lint": {"config": {"ignore_checks": ["W3005"]}}}
    return Application(
        settings=settings,
        storage=storage,
        ingestion=ingestion,
        history=history,
        serving=serving,
        training=training,
        observability=observability,
    )
