"""Champion and challenger: which bundle decides for whom, made ready once, and the one before for as long as it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Final, NamedTuple

from candor.clock import SECOND, Clock, Deadline
from candor.errors import BundleRefused, CandorError, DefinitionError
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle
from candor.store.protocol import Challenger, Snapshot
from candor.underwriting import LoadedBundle

KEPT: Final = 4
"""Bundles kept ready: a promotion and its rollback cost one load each, beside a challenger."""

RETRY_AFTER: Final = 5 * SECOND
"""How long a bundle that could not be fetched is left alone: an outage of S3 may not cost every request its wait."""

LoadBundle = Callable[[str, float], bytes]
"""A bundle's bytes by name, within so many seconds. Raises `StoreUnavailable`."""

OnFailure = Callable[[str, CandorError], None]
"""Told the name of a bundle that cannot serve, and why, each time it was tried."""


class Champion(LoadedBundle):
    """A bundle made ready to serve, and the definitions that it was trained on. Raises `BundleRefused`."""

    def __init__(self, sha: str, bundle: Bundle, definitions: Definitions) -> None:
        self.definitions = bundle.trained_on(definitions)
        super().__init__(sha, bundle)


class Serving(NamedTuple):
    """What decides: the views and on-demand features that are read, and the model on them, None where none can serve."""

    definitions: Definitions
    champion: Champion | None = None


class Chosen(NamedTuple):
    """What decides for one customer, and how probable it was that it would: what a comparison is weighted with."""

    serving: Serving
    propensity: float = 1.0


Bucket = Callable[[str], float]
"""A customer's lot against a challenger by name: a number from 0 to below 1, the same whenever it is drawn."""


class Champions:
    """What serves, by the pointer's word. A refused bundle is tried once, an unreadable one again after a while."""

    def __init__(
        self, definitions: Definitions, load_bundle: LoadBundle, clock: Clock, on_failure: OnFailure
    ) -> None:
        self._definitions = definitions
        self._load_bundle = load_bundle
        self._clock = clock
        self._on_failure = on_failure
        self.last = Serving(definitions)
        self._views: Mapping[str, str] = {}
        self._challenger: Challenger | None = None
        self._challenging: Serving | None = None
        self._ready: dict[str, Champion] = {}
        self._retry_at: dict[str, float] = {}

    def expected(self, bucket: Bucket) -> Chosen:
        """What decides for a customer if the pointer has not moved."""
        return self._assigned(bucket)

    def choose(self, pointer: Snapshot, bucket: Bucket, timeout_s: float) -> Chosen:
        """What decides for a customer, by the pointer's word: the challenger for its share, else the champion.

        A challenger that cannot serve has no share: the champion decides for everyone.
        """
        deadline, before = Deadline(timeout_s), self.last
        self.serving(pointer.champion, pointer.views, timeout_s)
        if pointer.views is not None:
            self._challenger = pointer.challenger
        self._challenging = self._standing(deadline, moved=self.last is not before)
        return self._assigned(bucket)

    def _standing(self, deadline: Deadline, *, moved: bool) -> Serving | None:
        """The challenger made ready; None where there is none, it is the champion already, or it cannot serve."""
        challenger, champion = self._challenger, self.last.champion
        if challenger is None or (champion is not None and champion.sha == challenger.bundle):
            return None
        standing = self._challenging.champion if self._challenging else None
        if standing is not None and standing.sha == challenger.bundle and not moved:
            return self._challenging
        ready = self._ready.get(challenger.bundle) or self._loaded(challenger.bundle, deadline.remaining())
        return Serving(self._versions(ready, self._views), ready) if ready else None

    def _assigned(self, bucket: Bucket) -> Chosen:
        if self._challenger is None or self._challenging is None:
            return Chosen(self.last)
        share = self._challenger.share
        if bucket(self._challenger.bundle) < share:
            return Chosen(self._challenging, share)
        return Chosen(self.last, 1.0 - share)

    def serving(self, sha: str | None, views: Mapping[str, str] | None, timeout_s: float) -> Serving:
        """What the pointer names; None where it could not be read: then all stays as `last`.

        The champion before serves where the one that is named cannot, a view as the champion was trained on it where the
        version that is named is not kept.
        """
        champion = self.last.champion
        if sha is not None and (champion is None or champion.sha != sha):
            champion = self._ready.get(sha) or self._loaded(sha, timeout_s) or champion
        views = self._views if views is None else views
        if champion is not self.last.champion or views != self._views:
            self._views = views
            self.last = Serving(self._versions(champion, views), champion)
        return self.last

    def _versions(self, champion: Champion | None, views: Mapping[str, str]) -> Definitions:
        trained = champion.definitions if champion else self._definitions
        try:
            return trained.serving(views)
        except DefinitionError as error:
            self._on_failure(champion.sha if champion else "", error)
            return trained

    def _loaded(self, sha: str, timeout_s: float) -> Champion | None:
        if self._clock.now_ms() < self._retry_at.get(sha, 0):
            return None
        try:
            bundle = Bundle.from_bytes(self._load_bundle(sha, timeout_s), sha)
            champion = Champion(sha, bundle, self._definitions)
        except CandorError as error:
            for_good = isinstance(error, BundleRefused)
            self._retry_at[sha] = inf if for_good else self._clock.now_ms() + RETRY_AFTER
            self._on_failure(sha, error)
            return None
        self._ready[sha] = champion
        if len(self._ready) > KEPT:
            del self._ready[next(iter(self._ready))]
        return champion
