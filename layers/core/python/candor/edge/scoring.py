"""What a scorer's sandbox keeps from request to request, built once, and made fresh again where it was restored from a snapshot."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from candor.champion import Champions, OnFailure
from candor.clock import DAY, MINUTE, Clock
from candor.decide import Decider
from candor.errors import StoreUnavailable
from candor.features.definitions import Definitions
from candor.regulation import Profile
from candor.store.scorer import BundleSource, ScorerStore, read_secret
from candor.store.signed.credentials import lease
from candor.updates import Retention

RENEW_BEFORE = 5 * MINUTE
"""How long before they expire credentials are fetched anew."""


class LenderDeclarations(NamedTuple):
    """What the lender declares."""

    definitions: Definitions
    policy: dict[str, Any]
    regulation_profile: Profile


class Scorer:
    """One sandbox's decider and connections. Not thread-safe: a sandbox serves one request at a time."""

    def __init__(self, lender: LenderDeclarations, clock: Clock, on_failure: OnFailure) -> None:
        self._lender = lender
        self._clock = clock
        self._on_failure = on_failure
        self._store: ScorerStore | None = None
        self._bundles: BundleSource | None = None
        self._decider: Decider | None = None
        self._renew_at = inf

    def decider(self) -> Decider:
        """Everything that outlives a request; built by the first one, so that a failure is answered, not a crash.

        Raises `StoreUnavailable`.
        """
        if self._decider is None:
            self._decider = self._built()
        elif self._clock.now_ms() >= self._renew_at:
            self.renew()
        return self._decider

    def prepare(self) -> None:
        """Before a snapshot: all that a request needs is in memory, and no connection is open.

        What cannot be reached now is left to the first request.
        """
        try:
            self.decider()
        except StoreUnavailable as error:
            self._on_failure("", error)
        self.close()

    def restored(self) -> None:
        """After a snapshot was restored: nothing random, nothing secret and no clock is shared with other sandboxes.

        Connected again, with the champion of now; what cannot be reached is left to the first request.
        """
        random.seed()
        self._renew_at = -inf
        try:
            self.decider().warm_up()
        except StoreUnavailable as error:
            self._on_failure("", error)

    def renew(self) -> None:
        """Fresh credentials, over new connections, by our own clock."""
        credentials, expires_at = lease()
        for connected in (self._store, self._bundles):
            if connected is not None:
                connected.renew(credentials)
        self._renew_at = expires_at - RENEW_BEFORE

    def close(self) -> None:
        """Give the connections back; the next request opens others."""
        for connected in (self._store, self._bundles):
            if connected is not None:
                connected.close()

    def _built(self) -> Decider:
        region, (credentials, expires_at) = os.environ["AWS_REGION"], lease()
        id_key = read_secret(os.environ["DECISION_KEY_SECRET"], region, credentials)
        self._bundles = BundleSource(
            region=region, bucket=os.environ["BUNDLES_BUCKET"], credentials=credentials
        )
        self._store = ScorerStore(
            region=region,
            features=os.environ["FEATURES_TABLE"],
            synchronous=os.environ["SYNCHRONOUS_TABLE"],
            decisions=os.environ["DECISIONS_TABLE"],
            registry=os.environ["REGISTRY_TABLE"],
            credentials=credentials,
        )
        ready = Decider(
            definitions=self._lender.definitions,
            store=self._store,
            champions=Champions(self._lender.definitions, self._bundles.load, self._clock, self._on_failure),
            fallback_policy=self._lender.policy,
            regulation_profile=self._lender.regulation_profile,
            id_key=id_key,
            clock=self._clock,
            retention_days=int(os.environ["DECISION_RETENTION_DAYS"]),
            retention=Retention(int(os.environ["REDELIVERY_HORIZON_DAYS"]) * DAY),
        )
        ready.warm_up()
        self._renew_at = expires_at - RENEW_BEFORE
        gc.freeze()  # what a sandbox keeps for good is 16,000 objects: walking them costs a request 1.4 ms
        return ready


def register(before: Callable[[], None], after: Callable[[], None]) -> None:
    """Have Lambda call these around a snapshot, where it makes any."""
    try:
        import snapshot_restore_py
    except ModuleNotFoundError:
        return  # it is there in Lambda's own runtime alone
    snapshot_restore_py.register_before_snapshot(before)
    snapshot_restore_py.register_after_restore(after)
