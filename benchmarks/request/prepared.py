"""Prepared decision, the work that peers do too: read four finished items, score, record, answer.

Everything on the way is the scorer's own: parsing, client, engine, record, log line. What it leaves out are the windows
(the values are finished) and the policy's table (a cut-off stands for it).
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Mapping
from typing import Any

from candor.clock import DAY, SECOND, SystemClock
from candor.decide import Attempt
from candor.decision import Decision, answer, decision_id, to_record
from candor.edge import rest, telemetry
from candor.edge.intake import Intake
from candor.errors import StoreUnavailable
from candor.features.vector import FeatureVector
from candor.model.bundle import Calibration
from candor.model.lightgbm import Booster
from candor.store.protocol import DecisionStore, Snapshot, StoredDecision
from candor.store.scorer import ScorerStore
from candor.store.signed.client import Credentials
from lender import ACCEPTANCE, DEFINITIONS

GROUPS = tuple(f"view{place}" for place in range(4))
CUTOFF = 0.999_999
TIMEOUT_S = 5.0
CLOCK = SystemClock()
INTAKE = Intake(ACCEPTANCE, DEFINITIONS.max_future_skew_ms, CLOCK, replay_allowed=False)
_CALIBRATION = Calibration(slope=1.0, intercept=0.0)
_ID_KEY = b"a key for benchmarks alone"


class PreparedScorer:
    """Scorer on precomputed values."""

    def __init__(self, store: DecisionStore, booster: Booster) -> None:
        self.store = store
        self._booster = booster

    def handle(self, event: dict[str, Any]) -> rest.Response:
        """One proxied checkout. Raises `StoreUnavailable` where the read or the write failed."""
        started = time.perf_counter()
        attempt = INTAKE.attempt_of(rest.Request(event))
        token = attempt.application.checkout.applicant.token
        snapshot = self.store.read([f"{group}@1#{token}" for group in GROUPS], TIMEOUT_S)
        decision = self._decided(attempt, snapshot)
        record = StoredDecision(
            id=decision.id,
            merchant_id=decision.merchant_id,
            fingerprint=attempt.fingerprint,
            record=to_record(decision),
            answer=answer(decision),
            q=decision.q,
            expires_at=(decision.q + 90 * DAY) // SECOND,
        )
        if self.store.record(record, TIMEOUT_S) is not None:
            raise StoreUnavailable("the decision exists already")
        latency_ms = (time.perf_counter() - started) * 1_000
        telemetry.emit(telemetry.decision_line(decision, "bench", CLOCK, latency_ms))
        return rest.answer(200, record.answer)

    def _decided(self, attempt: Attempt, snapshot: Snapshot) -> Decision:
        values = array("d")
        for read in snapshot.reads.values():
            if read.blob is None:
                raise StoreUnavailable("an item is missing")
            values.frombytes(read.blob)
        score = _CALIBRATION.probability(self._booster.raw(values))
        now_ms = CLOCK.now_ms()
        application = attempt.application
        return Decision(
            id=decision_id(_ID_KEY, application.merchant_id, attempt.key, livemode=application.livemode),
            merchant_id=application.merchant_id,
            livemode=application.livemode,
            q=now_ms,
            replay_clock=False,
            request=application.checkout,
            vector=FeatureVector(
                values,
                dict.fromkeys(GROUPS, "present"),
                {key: read.version for key, read in snapshot.reads.items()},
            ),
            definition_hash="0" * 64,
            bundle=snapshot.champion,
            policy="0" * 64,
            score=score,
            cutoff=CUTOFF,
            outcome="approved" if score <= CUTOFF else "declined",
            component=None,
            rules=[],
            reasons=[],
            degraded=False,
            regulation_profile="none",
            attempt=os.urandom(8).hex(),
            decided_at=now_ms,
        )


def lean_store() -> ScorerStore:
    """The scorer's client, on the table of finished items."""
    return ScorerStore(
        region=os.environ["AWS_REGION"],
        features="packed",
        synchronous="synchronous",
        decisions="decisions",
        registry="registry",
        credentials=Credentials.from_environment(),
    )


def pynamodb_store() -> DecisionStore:
    """The same two calls by pynamodb; its read has no pointer, which is to its favour."""
    from candor.store.dynamodb import DynamoDecisionStore

    def pointer() -> tuple[str | None, Mapping[str, str] | None]:
        return None, None

    return DynamoDecisionStore("packed", "decisions", pointer)
