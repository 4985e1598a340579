"""State of a scorer's sandbox across requests: built once, renewed after a restore from a snapshot."""

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
"""Margin (ms) before expiry at which credentials are fetched anew."""


class LenderDeclarations(NamedTuple):
    """The lender's declarations that a scorer needs."""

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
        """The decider, built on the first request so that a failure becomes a response instead of a crash.

        Raises `StoreUnavailable`.
        """
        if self._decider is None:
            self._decider = self._build()
        elif self._clock.now_ms() >= self._renew_at:
            self.renew()
        return self._decider

    def prepare(self) -> None:
        """Before a snapshot: load everything into memory, and close all connections.

        Failures are left to the first request.
        """
        try:
            self.decider()
        except StoreUnavailable as error:
            self._on_failure("", error)
        self.close()

    def restored(self) -> None:
        """After a restore: fresh random state, credentials and AWS clock, which snapshots must not share.

        Reconnects and loads the current champion; failures are left to the first request.
        """
        random.seed()
        self._renew_at = -inf
        try:
            self.decider().warm_up()
        except StoreUnavailable as error:
            self._on_failure("", error)

    def renew(self) -> None:
        """Fetch credentials and use them on new connections."""
        credentials, expires_at = lease()
        for client in (self._store, self._bundles):
            if client is not None:
                client.renew(credentials)
        self._renew_at = expires_at - RENEW_BEFORE

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        for client in (self._store, self._bundles):
            if client is not None:
                client.close()

    def _build(self) -> Decider:
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
        decider = Decider(
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
        decider.warm_up()
        self._renew_at = expires_at - RENEW_BEFORE
        gc.freeze()  # 16,000 permanent objects: walking them costs a request 1.4 ms
        return decider


def register(before: Callable[[], None], after: Callable[[], None]) -> None:
    """Register hooks before a snapshot and after a restore, where Lambda supports them."""
    try:
        import snapshot_restore_py
    except ModuleNotFoundError:
        return  # only Lambda's own runtime has it
    snapshot_restore_py.register_before_snapshot(before)
    snapshot_restore_py.register_after_restore(after)
