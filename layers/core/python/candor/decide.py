"""The whole checkout path: keys, one read, vector, score, policy, one conditional write, answer.

The decision record is the idempotency record: its id is a keyed hash of merchant, route and Idempotency-Key, and a
repeated request is answered with the stored record. Synchronous views are updated in the same transaction as the
record; if another checkout wrote their items first, the decision is taken again on the current items (ADR 0013).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import time
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any, NamedTuple

import msgspec

from candor.champion import Bucket, Champions, Chosen
from candor.clock import DAY, SECOND, Clock, Deadline
from candor.contracts import Application, check_not_after
from candor.decision import Decision, answer, decided, decision_id, to_record
from candor.errors import InvalidInput, StoreUnavailable, refuse
from candor.features.consumer_reports import with_consumer_reports
from candor.features.definitions import Definitions
from candor.features.vector import FeatureVector, Read, build, decode_items, item_keys
from candor.policy import compiled
from candor.regulation import Profile, adverse_action
from candor.store.protocol import Commit, Contended, DecisionStore, Snapshot, StoredDecision
from candor.synchronous import Items, Keys, SynchronousViews
from candor.underwriting import assess
from candor.updates import Retention

__all__ = ["Answer", "Attempt", "Decider", "Decision", "decided"]

READ_SHARE = 0.5
"""Share of the deadline that the read may use, so that time is left to write the record."""

LOAD_SHARE = 0.5
"""Share of the remaining time that loading a new champion's bundle may take."""

PAUSE_S = 0.004
"""Longest wait (s) before items held by another transaction are read again; doubled each turn, six times."""

START_TIMEOUT_S = 2.0
"""Time limit (s) at a cold start for the pointer, and for the bundle: no request's deadline runs yet."""


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


class DecisionScope(NamedTuple):
    """Inputs of one decision: the assigned bundle with its definitions, and the item keys to read, by view name."""

    chosen: Chosen
    keys: Keys
    synchronous: SynchronousViews


Reads = Mapping[str, Read]
"""Reads by item key."""


class ProposedDecision(NamedTuple):
    """A decision that takes effect once its record and all commits are written in one transaction."""

    decision: Decision
    record: StoredDecision
    commits: Sequence[Commit]


class Answer(msgspec.Struct, frozen=True):
    """The response body, byte for byte; `decision` is None if it was stored by an earlier request."""

    body: bytes
    decision: Decision | None

    @property
    def replayed(self) -> bool:
        return self.decision is None


class Decider:
    """Decides checkouts; `fallback_policy` applies when no bundle can serve.

    Decisions are kept `retention_days`; `retention` is of feature items, equal to the updater's. Raises
    `DefinitionError` if a served view's entity has no key in a checkout.
    """

    def __init__(  # noqa: PLR0913 - all are keyword-only
        self,
        *,
        definitions: Definitions,
        store: DecisionStore,
        champions: Champions,
        fallback_policy: Mapping[str, Any],
        regulation_profile: Profile,
        id_key: bytes,
        clock: Clock,
        retention_days: int,
        retention: Retention,
    ) -> None:
        definitions.require_keys()
        self._max_skew_ms = definitions.max_future_skew_ms
        self._store = store
        self._champions = champions
        self._fallback = compiled(fallback_policy)
        self._profile = regulation_profile
        self._id_key = id_key
        self._clock = clock
        self._kept_ms = retention_days * DAY
        self._retention = retention

    def warm_up(self) -> None:
        """Load the champion before the first request; what fails here is retried by the requests."""
        pointer = self._store.read([], START_TIMEOUT_S)
        self._champions.choose(pointer, _any_bucket, START_TIMEOUT_S)

    def decide(self, attempt: Attempt, deadline: Deadline) -> Answer:
        """Decide once per (merchant, key).

        Raises `InvalidInput` if the key was used with another request, `StoreUnavailable` if the record could
        not be written: then nothing is decided and the same key is safe to retry.
        """
        self._check_moment(attempt)
        scope, reads = self._read(attempt.application, deadline)
        for turn in count():
            proposal = self._propose(attempt, scope, reads)
            stored = self._store.record(proposal.record, deadline.remaining(), proposal.commits)
            if not isinstance(stored, Contended):
                return _answered(proposal, stored)
            reads = self._read_again(stored, scope, reads, turn, deadline)
        raise AssertionError("unreachable")

    def _read(self, application: Application, deadline: Deadline) -> tuple[DecisionScope, Reads]:
        """Read the pointer and the items in one call.

        The items are those of the last known pointer; if it now names other views, their items are read too.
        """
        bucket = assignment(self._id_key, application.checkout.applicant.token)
        before = self._scope(self._champions.expected(bucket), application)
        snapshot = self._fetch(before, deadline)
        share = deadline.remaining() * LOAD_SHARE
        scope = self._scope(self._champions.choose(snapshot, bucket, share), application)
        if scope.keys != before.keys:
            snapshot = self._fetch(scope, deadline)
        return scope, snapshot.reads

    def _scope(self, chosen: Chosen, application: Application) -> DecisionScope:
        definitions = chosen.serving.definitions
        views = SynchronousViews(definitions, self._retention)
        return DecisionScope(chosen, item_keys(definitions, application), views)

    def _fetch(self, scope: DecisionScope, deadline: Deadline) -> Snapshot:
        strongly = scope.synchronous.keys(scope.keys)
        others = [key for key in chain(*scope.keys.values()) if key not in strongly]
        return self._store.read(others, deadline.remaining() * READ_SHARE, strongly)

    def _read_again(
        self, contended: Contended, scope: DecisionScope, reads: Reads, turn: int, deadline: Deadline
    ) -> Reads:
        """Current items: from the failed write's response, else read again after a random wait.

        A failed condition means that the other write is complete; a transaction conflict, that it is still under way.
        """
        if not deadline.remaining():
            raise StoreUnavailable("other checkouts kept writing to the same items until the deadline")
        if contended.current:
            return {**reads, **contended.current}
        wait_s = PAUSE_S * 2 ** min(turn, 6) * random.random()  # noqa: S311 - no secret
        time.sleep(min(wait_s, deadline.remaining()))
        return self._fetch(scope, deadline).reads

    def _check_moment(self, attempt: Attempt) -> None:
        """Raise `InvalidInput` for a checkout dated later than now by more than the declared skew."""
        now = self._clock.now_ms() if attempt.replay_at is None else attempt.replay_at
        check_not_after(attempt.application.checkout, now + self._max_skew_ms, refuse)

    def _propose(self, attempt: Attempt, scope: DecisionScope, reads: Reads) -> ProposedDecision:
        now_ms = self._clock.now_ms()
        definitions = scope.chosen.serving.definitions
        checkout = attempt.application.checkout
        items: Items = decode_items(definitions, reads, scope.keys)
        if attempt.replay_at is None:
            q, items = scope.synchronous.live(scope.keys, items, now_ms)
        else:
            q = attempt.replay_at
        vector = build(definitions, items, scope.keys, checkout, q)
        decision = self._decide(attempt, q, now_ms, vector, scope)
        record = StoredDecision(
            id=decision.id,
            merchant_id=decision.merchant_id,
            fingerprint=attempt.fingerprint,
            record=to_record(decision),
            answer=answer(decision),
            q=decision.q,
            expires_at=(now_ms + self._kept_ms) // SECOND,
        )
        event = decided(decision, definitions)
        return ProposedDecision(decision, record, scope.synchronous.commits(event, scope.keys, items, now_ms))

    def _decide(
        self, attempt: Attempt, q: int, now_ms: int, vector: FeatureVector, scope: DecisionScope
    ) -> Decision:
        definitions, champion = scope.chosen.serving
        application, checkout = attempt.application, attempt.application.checkout
        policy = champion.policy if champion else self._fallback
        unseen = scope.synchronous.unseen(vector.states)
        assessment = assess(champion, policy, checkout, definitions.features, vector, unseen=unseen)
        counter_offer = assessment.component is not None
        owed = adverse_action(
            self._profile, checkout.offer, assessment.outcome, now_ms, counter_offer=counter_offer
        )
        return Decision(
            id=decision_id(self._id_key, application.merchant_id, attempt.key, livemode=application.livemode),
            merchant_id=application.merchant_id,
            livemode=application.livemode,
            q=q,
            replay_clock=attempt.replay_at is not None,
            request=checkout,
            vector=vector,
            definition_hash=definitions.hash,
            bundle=champion.sha if champion else None,
            policy=policy.hash,
            score=assessment.score,
            cutoff=assessment.cutoff,
            outcome=assessment.outcome,
            component=assessment.component,
            rules=assessment.rules,
            reasons=assessment.reasons,
            degraded=assessment.degraded,
            unseen=unseen,
            terms=assessment.terms,
            adverse_action=owed and with_consumer_reports(owed, definitions, vector, q),
            regulation_profile=self._profile.name,
            attempt=os.urandom(8).hex(),
            propensity=scope.chosen.propensity,
            decided_at=now_ms,
        )


def assignment(key: bytes, token: str) -> Bucket:
    """Assignment of one customer: a keyed hash of the token and the challenger's name, which nobody can predict."""

    def bucket(sha: str) -> float:
        digest = hmac.digest(key, f"challenger\0{sha}\0{token}".encode(), "sha256")
        return (int.from_bytes(digest[:8]) >> 11) / 2**53

    return bucket


def _any_bucket(_sha: str) -> float:
    """Bucket used at a cold start: the challenger is loaded, and decides nothing."""
    return 0.0


def _answered(proposal: ProposedDecision, stored: StoredDecision | None) -> Answer:
    """The answer of the decision just written, or of the stored one."""
    if stored is None:
        return Answer(proposal.record.answer, proposal.decision)
    if stored.fingerprint != proposal.record.fingerprint:
        raise InvalidInput("idempotency_key_reused", "This key was used with a different request.")
    return Answer(stored.answer, None)
