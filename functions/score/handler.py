"""POST /v1/decisions: decide a merchant's checkout."""

import os
import time
from functools import lru_cache
from typing import Any

from candor.champion import Champions
from candor.clock import DAY, Deadline, SystemClock
from candor.decide import Decider
from candor.edge import rest, telemetry
from candor.edge.intake import attempt_of
from candor.errors import CandorError, InvalidInput, StoreUnavailable
from candor.store.commits import Retention
from candor.store.hot import BundleSource, HotStore, read_secret
from candor.store.lean import Credentials
from lender import DEFINITIONS, REGULATION_PROFILE, policy

CLOCK = SystemClock()
DEADLINE_S = int(os.environ["DEADLINE_MS"]) / 1_000
REPLAY_ALLOWED = os.environ["REPLAY_CLOCK"] == "allowed"
STAGE = os.environ["STAGE"]
RETENTION = Retention(
    items=int(os.environ["FEATURE_RETENTION_DAYS"]) * DAY,
    event_ids=int(os.environ["REDELIVERY_HORIZON_DAYS"]) * DAY,
)


@lru_cache(maxsize=1)
def decider() -> Decider:
    """Everything that outlives a request; built by the first one, so that a failure is answered, not a crash."""
    region, credentials = os.environ["AWS_REGION"], Credentials.from_environment()
    bundles = BundleSource(region=region, bucket=os.environ["BUNDLES_BUCKET"], credentials=credentials)
    ready = Decider(
        definitions=DEFINITIONS,
        store=HotStore(
            region=region,
            features=os.environ["FEATURES_TABLE"],
            synchronous=os.environ["SYNCHRONOUS_TABLE"],
            decisions=os.environ["DECISIONS_TABLE"],
            registry=os.environ["REGISTRY_TABLE"],
            credentials=credentials,
        ),
        champions=Champions(DEFINITIONS, bundles.load, CLOCK, _bundle_failed),
        fallback_policy=policy(),
        regulation_profile=REGULATION_PROFILE,
        id_key=read_secret(os.environ["DECISION_KEY_SECRET"], region, credentials),
        clock=CLOCK,
        retention_days=int(os.environ["DECISION_RETENTION_DAYS"]),
        retention=RETENTION,
    )
    ready.warm_up()
    return ready


def handler(event: dict[str, Any], context: object) -> rest.Response:
    """Answer one checkout; the same Idempotency-Key always gets the same answer."""
    started = time.perf_counter()
    request = rest.Request(event)
    try:
        answer = decider().decide(attempt_of(request, replay_allowed=REPLAY_ALLOWED), Deadline(DEADLINE_S))
    except InvalidInput as error:
        return _told(rest.refusal(error, request.request_id), error.code, request.request_id)
    except StoreUnavailable:
        detail = "Nothing was decided. Retry with the same Idempotency-Key."
        return _told(
            rest.problem(503, "unavailable", detail, request.request_id), "unavailable", request.request_id
        )
    if answer.decision is None:
        return rest.answer(200, answer.body, {"Idempotent-Replayed": "true"})
    latency_ms = (time.perf_counter() - started) * 1_000
    telemetry.emit(telemetry.decision_line(answer.decision, STAGE, CLOCK, latency_ms))
    return rest.answer(200, answer.body)


def _bundle_failed(sha: str, error: CandorError) -> None:
    telemetry.emit(telemetry.bundle_line(sha, error, STAGE, CLOCK))


def _told(response: rest.Response, code: str, request_id: str) -> rest.Response:
    telemetry.emit(telemetry.failure_line(code, response["statusCode"], request_id, STAGE, CLOCK))
    return response
