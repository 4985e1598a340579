"""Full decision by the deployed handler, and each of its parts on the inputs it has there."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any

from benchmarks.request.world import CUSTOMERS, SETTINGS, proxied
from candor.clock import Deadline
from candor.decide import Attempt, Decider, DecisionScope, ProposedDecision
from candor.decision import answer, decided, to_record
from candor.edge import rest, telemetry
from candor.features.vector import build, decode_items
from candor.policy import Facts
from candor.store.protocol import Snapshot


class Steps:
    """Inputs of each step of one customer's decision."""

    def __init__(self, module: Any, customer: int) -> None:
        self.clock = module.CLOCK
        self.decider: Decider = module.SCORER.decider()
        self.attempt: Attempt = module.INTAKE.attempt_of(rest.Request(proxied(customer)))
        scope, reads = self.decider._read(self.attempt.application, Deadline(20.0))  # noqa: SLF001 - parts of it
        self.scope: DecisionScope = scope
        self.reads = reads
        self.proposal: ProposedDecision = self.decider._propose(self.attempt, scope, reads)  # noqa: SLF001 - as above
        self.decision = self.proposal.decision
        champion = scope.chosen.serving.champion
        assert champion is not None, "the stub's bundle does not serve"
        self.champion = champion


def parts() -> dict[str, Callable[[], int]]:
    """Whole handler and its steps, for every customer in turn; unlike the served row without the runtime loop."""
    os.environ |= SETTINGS
    module = importlib.import_module("functions.score.handler")
    steps = [Steps(module, customer) for customer in range(CUSTOMERS)]
    each: dict[str, Callable[[Steps], object]] = {
        "full: parse and validate": partial(_parse, module),
        "full: read, transport": _read,
        "full: decode + finalise": _vector,
        "full: score": lambda step: step.champion.score(step.decision.vector.values),
        "full: policy": _policy,
        "full: record, answer": lambda step: (to_record(step.decision), answer(step.decision)),
        "full: synchronous items": _commits,
        "full: write, transport": _write,
        "full: log line": partial(_log, module),
    }
    whole: dict[str, Callable[[], int]] = {"full, in process": partial(_whole, module)}
    return whole | {name: partial(_all, step, steps) for name, step in each.items()}


def _all(step: Callable[[Steps], object], steps: Sequence[Steps]) -> int:
    with redirect_stdout(io.StringIO()):
        for customer_steps in steps:
            step(customer_steps)
    return len(steps)


def _whole(module: Any) -> int:
    with redirect_stdout(io.StringIO()):
        for customer in range(CUSTOMERS):
            response = module.handler(proxied(customer), None)
            assert response["statusCode"] == 200, response
    return CUSTOMERS


def _parse(module: Any, _step: Steps) -> object:
    return module.INTAKE.attempt_of(rest.Request(proxied(0)))


def _read(step: Steps) -> Snapshot:
    return step.decider._fetch(step.scope, Deadline(20.0))  # noqa: SLF001 - the step itself


def _vector(step: Steps) -> object:
    definitions, checkout = step.scope.chosen.serving.definitions, step.attempt.application.checkout
    return build(
        definitions,
        decode_items(definitions, step.reads, step.scope.keys),
        step.scope.keys,
        checkout,
        step.decision.q,
    )


def _policy(step: Steps) -> object:
    decision, checkout = step.decision, step.attempt.application.checkout
    features = step.scope.chosen.serving.definitions.features
    facts = Facts(
        score=decision.score,
        cutoff=decision.cutoff,
        amount=checkout.total,
        currency=checkout.currency,
        degraded=decision.degraded,
        features=dict(zip(features, decision.vector.values, strict=True)),
        states=decision.vector.states,
        installments=checkout.offer.installments,
        finance_charge=checkout.offer.finance_charge,
    )
    return step.champion.policy.decide(facts)


def _commits(step: Steps) -> object:
    """Decode included: a commit changes the items' states in place."""
    definitions, keys = step.scope.chosen.serving.definitions, step.scope.keys
    written = {key: step.reads[key] for key in step.scope.synchronous.keys(keys)}
    event = decided(step.decision, definitions)
    items = decode_items(definitions, written, keys)
    return step.scope.synchronous.commits(event, keys, items, step.decision.q)


def _write(step: Steps) -> object:
    return step.decider._store.record(step.proposal.record, 20.0, step.proposal.commits)  # noqa: SLF001 - as above


def _log(module: Any, step: Steps) -> None:
    telemetry.emit(telemetry.decision_line(step.decision, "bench", module.CLOCK, 1.5))
