"""POST /v1/decisions: decide a merchant's checkout."""

import os
import time
from typing import Any

from candor.clock import Deadline, SystemClock
from candor.edge import rest, telemetry
from candor.edge.intake import Intake
from candor.edge.scoring import LenderDeclarations, Scorer, register
from candor.errors import CandorError, InvalidInput, StoreUnavailable
from lender import ACCEPTANCE, DEFINITIONS, REGULATION_PROFILE, policy

CLOCK = SystemClock()
DEADLINE_S = int(os.environ["DEADLINE_MS"]) / 1_000
INTAKE = Intake(
    ACCEPTANCE, DEFINITIONS.max_future_skew_ms, CLOCK, replay_allowed=os.environ["REPLAY_CLOCK"] == "allowed"
)
STAGE = os.environ["STAGE"]


def handler(event: dict[str, Any], context: object) -> rest.Response:
    """Decide a checkout; requests with the same Idempotency-Key get the same answer."""
    started = time.perf_counter()
    request = rest.Request(event)
    try:
        attempt = INTAKE.attempt_of(request)
        answer = SCORER.decider().decide(attempt, Deadline(DEADLINE_S))
    except InvalidInput as error:
        return _logged(rest.refusal(error, request.request_id), error.code, request.request_id)
    except StoreUnavailable:
        detail = "Nothing was decided. Retry with the same Idempotency-Key."
        return _logged(
            rest.problem(503, "unavailable", detail, request.request_id), "unavailable", request.request_id
        )
    if answer.decision is None:
        return rest.answer(200, answer.body, {"Idempotent-Replayed": "true"})
    latency_ms = (time.perf_counter() - started) * 1_000
    telemetry.emit(telemetry.decision_line(answer.decision, STAGE, CLOCK, latency_ms))
    return rest.answer(200, answer.body)


def _bundle_failed(sha: str, error: CandorError) -> None:
    telemetry.emit(telemetry.bundle_line(sha, error, STAGE, CLOCK))


def _logged(response: rest.Response, code: str, request_id: str) -> rest.Response:
    telemetry.emit(telemetry.failure_line(code, response["statusCode"], request_id, STAGE, CLOCK))
    return response


SCORER = Scorer(LenderDeclarations(DEFINITIONS, policy(), REGULATION_PROFILE), CLOCK, _bundle_failed)
register(SCORER.prepare, SCORER.restored)
