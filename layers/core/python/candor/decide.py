"""The whole checkout path: keys, one read, vector, score, policy, one conditional write, answer.

The decision record is the idempotency record: its id is a keyed hash of merchant, route and Idempotency-Key, and who
comes second answers with what is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b32encode
from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec

from candor.champion import Champion, Champions
from candor.clock import DAY, HOUR, SECOND, Clock, Deadline, format_rfc3339, parse_rfc3339
from candor.contracts import Application, Checkout
from candor.errors import InvalidInput, PolicyError
from candor.features.vector import FeatureVector, build
from candor.features.views import Definitions
from candor.policy import Facts, Policy, Verdict
from candor.reasons import MAX_REASONS
from candor.store.protocol import DecisionStore, StoredDecision

ROUTE = "POST /v1/decisions"
VALID_FOR = HOUR
"""How long an approval may be used."""

READ_SHARE = 0.5
"""Share of the deadline that the read may use: enough must stay to write the record."""

LOAD_SHARE = 0.5
"""Share of what then is left that a new champion's bundle may take."""

START_TIMEOUT_S = 2.0
"""What a start may wait for its pointer, and for its bundle: no request's deadline runs yet."""


class Attempt(msgspec.Struct, frozen=True):
    """One call: an application under an Idempotency-Key.

    `replay_at` (ms UTC) stands in for the clock, on stages that allow it.
    """

    application: Application
    key: str
    replay_at: int | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the request in canonical form."""
        canonical = msgspec.json.encode([self.application.checkout, self.replay_at], order="sorted")
        return hashlib.sha256(canonical).hexdigest()


class Decision(msgspec.Struct, frozen=True):
    """The decision record: all that replay needs. Moments in ms UTC.

    `bundle` is None where none served; `policy` then is the hash of the fallback's table, else of the bundle's.
    `attempt` is random: a write that is sent again knows its own record from that of a like request at the same moment.
    """

    id: str
    merchant_id: str
    livemode: bool
    q: int
    replay_clock: bool
    request: Checkout
    vector: FeatureVector
    definition_hash: str
    bundle: str | None
    policy: str
    score: float | None
    cutoff: float | None
    outcome: str
    component: str | None
    rules: list[str]
    reasons: list[str]
    degraded: bool
    regulation_profile: str
    attempt: str
    propensity: float = 1.0


class Answer(msgspec.Struct, frozen=True):
    """The merchant's body, byte for byte; `decision` is None when the answer was stored before."""

    body: bytes
    decision: Decision | None

    @property
    def replayed(self) -> bool:
        return self.decision is None


class Decider:
    """Decides checkouts; `fallback_policy` serves without a bundle.

    Decisions are kept `retention_days`, feature items `feature_retention_days` after their last event.
    """

    def __init__(  # noqa: PLR0913 - each has its name at the call
        self,
        *,
        definitions: Definitions,
        store: DecisionStore,
        champions: Champions,
        fallback_policy: Mapping[str, Any],
        regulation_profile: str,
        id_key: bytes,
        clock: Clock,
        retention_days: int,
        feature_retention_days: int,
    ) -> None:
        self._definitions = definitions
        self._store = store
        self._champions = champions
        self._fallback = Policy(fallback_policy)
        self._profile = regulation_profile
        self._id_key = id_key
        self._clock = clock
        self._retention = retention_days * DAY
        self._feature_retention = feature_retention_days * DAY

    def warm_up(self) -> None:
        """Make the champion ready before the first request; what fails here is left to the requests."""
        pointer = self._store.read([], START_TIMEOUT_S).champion
        self._champions.serving(pointer, START_TIMEOUT_S)

    def decide(self, attempt: Attempt, deadline: Deadline) -> Answer:
        """Decide once per (merchant, key).

        Raises `InvalidInput` if the key was used with another request, `StoreUnavailable` if the record could
        not be written: then nothing is decided and the same key is safe to retry.
        """
        self._check_moment(attempt)
        keys = self._keys(attempt.application)
        snapshot = self._store.read(list(chain(*keys.values())), deadline.remaining() * READ_SHARE)
        q = self._clock.now_ms() if attempt.replay_at is None else attempt.replay_at
        checkout = attempt.application.checkout
        vector = build(self._definitions, snapshot.reads, keys, checkout, q, self._feature_retention)
        champion = self._champions.serving(snapshot.champion, deadline.remaining() * LOAD_SHARE)
        decision = self._decide(attempt, q, vector, champion)
        return self._record(decision, attempt.fingerprint, deadline)

    def _check_moment(self, attempt: Attempt) -> None:
        """A checkout dated later than now, beyond the declared skew, comes from a wrong clock."""
        dated = attempt.application.checkout.occurred_at
        now = self._clock.now_ms() if attempt.replay_at is None else attempt.replay_at
        if dated is not None and parse_rfc3339(dated) > now + self._definitions.max_future_skew_ms:
            raise InvalidInput("occurred_in_future", "The checkout is dated in the future.", "occurred_at")

    def _keys(self, application: Application) -> dict[str, tuple[str, ...]]:
        """Item keys by view name, for the entities that the application names."""
        found = {name: entity.key_of(application) for name, entity in self._definitions.entities.items()}
        return {
            view.name: view.item_keys(token)
            for view in self._definitions.views
            if (token := found[view.entity.name]) is not None
        }

    def _decide(self, attempt: Attempt, q: int, vector: FeatureVector, champion: Champion | None) -> Decision:
        application, checkout = attempt.application, attempt.application.checkout
        score = champion.score(vector.values) if champion else None
        cutoff = champion.bundle.cutoff if champion else None
        facts = Facts(
            score=score,
            cutoff=cutoff,
            amount=checkout.total,
            currency=checkout.currency,
            degraded=vector.degraded or score is None,
            features=dict(zip(self._definitions.features, vector.values, strict=True)),
            states=vector.states,
        )
        policy = champion.policy if champion else self._fallback
        verdict = _verdict(policy, facts)
        return Decision(
            id=decision_id(self._id_key, application.merchant_id, attempt.key),
            merchant_id=application.merchant_id,
            livemode=application.livemode,
            q=q,
            replay_clock=attempt.replay_at is not None,
            request=checkout,
            vector=vector,
            definition_hash=self._definitions.hash,
            bundle=champion.sha if champion else None,
            policy=policy.hash,
            score=score,
            cutoff=cutoff,
            outcome=verdict.outcome,
            component=verdict.component,
            rules=verdict.rules,
            reasons=reasons(verdict, champion, vector),
            degraded=facts.degraded,
            regulation_profile=self._profile,
            attempt=os.urandom(8).hex(),
        )

    def _record(self, decision: Decision, fingerprint: str, deadline: Deadline) -> Answer:
        new = StoredDecision(
            id=decision.id,
            merchant_id=decision.merchant_id,
            fingerprint=fingerprint,
            record=msgspec.json.encode(decision),
            answer=answer(decision),
            q=decision.q,
            expires_at=(self._clock.now_ms() + self._retention) // SECOND,
        )
        stored = self._store.record(new, deadline.remaining())
        if stored is None:
            return Answer(new.answer, decision)
        if stored.fingerprint != fingerprint:
            raise InvalidInput("idempotency_key_reused", "This key was used with a different request.")
        return Answer(stored.answer, None)


def _verdict(policy: Policy, facts: Facts) -> Verdict:
    """The policy's verdict; a person looks where the table itself fails on these facts."""
    try:
        return policy.decide(facts)
    except PolicyError:
        return Verdict("action_required", None, ["policy_failed"], [])


def reasons(verdict: Verdict, champion: Champion | None, vector: FeatureVector) -> list[str]:
    """Reason codes of a decline, from the component that failed; none otherwise."""
    if verdict.component == "model" and champion is not None:
        return champion.reasons(vector.values)
    return verdict.reasons[:MAX_REASONS]


def decision_id(key: bytes, merchant_id: str, idempotency_key: str) -> str:
    """Keyed hash (HMAC-SHA-256, 130 bits of it) of merchant, route and Idempotency-Key."""
    message = f"{merchant_id}\0{ROUTE}\0{idempotency_key}".encode()
    return "dec_" + b32encode(hmac.new(key, message, hashlib.sha256).digest())[:26].decode().lower()


def answer(decision: Decision) -> bytes:
    """The merchant's body: never a score, a reason or a feature."""
    checkout = decision.request
    approved = decision.outcome == "approved"
    return msgspec.json.encode(
        {
            "id": decision.id,
            "object": "decision",
            "outcome": decision.outcome,
            "approved_amount_max": checkout.total if approved else 0,
            "currency": checkout.currency,
            "expires_at": format_rfc3339(decision.q + VALID_FOR) if approved else None,
            "terms": {"product": checkout.offer.product, "installments": checkout.offer.installments},
            "next_action": None,
            "livemode": decision.livemode,
        }
    )
