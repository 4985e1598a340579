"""Champion and challenger: the bundle that decides for each customer, loaded once and cached."""

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
"""Pause (ms) before a bundle that could not be fetched is tried again: an outage of S3 must not delay every request."""

LoadBundle = Callable[[str, float], bytes]
"""A bundle's bytes by name, within so many seconds. Raises `StoreUnavailable`."""

OnFailure = Callable[[str, CandorError], None]
"""Callback with a bundle's name and the error, called each time the bundle fails to load."""


class Champion(LoadedBundle):
    """A loaded bundle with the definitions that it was trained on. Raises `BundleRefused`."""

    def __init__(self, sha: str, bundle: Bundle, definitions: Definitions) -> None:
        self.definitions = bundle.trained_on(definitions)
        super().__init__(sha, bundle)


class Serving(NamedTuple):
    """The definitions to read features by, and the champion that scores them; None if no bundle can serve."""

    definitions: Definitions
    champion: Champion | None = None


class Chosen(NamedTuple):
    """The bundle assigned to one customer, and the probability of that assignment (its propensity)."""

    serving: Serving
    propensity: float = 1.0


Bucket = Callable[[str], float]
"""A customer's bucket by the challenger's assignment name: a deterministic number in [0, 1)."""


class Champions:
    """Loads and caches what the pointer names. Refused bundles are not retried, unreadable ones after `RETRY_AFTER`."""

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
        """The assignment of a customer if the pointer has not moved since the last call of `choose`."""
        if self._challenger is None or self._challenging is None:
            return Chosen(self.last)
        share = self._challenger.share
        if bucket(self._challenger.assignment or self._challenger.bundle) < share:
            return Chosen(self._challenging, share)
        return Chosen(self.last, 1.0 - share)

    def choose(self, pointer: Snapshot, bucket: Bucket, timeout_s: float) -> Chosen:
        """Assign a customer by the pointer: the challenger for its share, else the champion.

        If the challenger cannot serve, the champion decides for everyone.
        """
        deadline, before = Deadline(timeout_s), self.last
        self.serving(pointer.champion, pointer.views, timeout_s)
        if pointer.views is not None:
            self._challenger = pointer.challenger
        self._challenging = self._challenger_serving(deadline, moved=self.last is not before)
        return self.expected(bucket)

    def _challenger_serving(self, deadline: Deadline, *, moved: bool) -> Serving | None:
        """The challenger, loaded; None if there is none, it is the champion already, or it cannot serve."""
        challenger, champion = self._challenger, self.last.champion
        if challenger is None or (champion is not None and champion.sha == challenger.bundle):
            return None
        loaded = self._challenging.champion if self._challenging else None
        if loaded is not None and loaded.sha == challenger.bundle and not moved:
            return self._challenging
        ready = self._ready.get(challenger.bundle) or self._loaded(challenger.bundle, deadline.remaining())
        return Serving(self._versions(ready, self._views), ready) if ready else None

    def serving(self, sha: str | None, views: Mapping[str, str] | None, timeout_s: float) -> Serving:
        """Load what the pointer names; None (the pointer could not be read) keeps `last`.

        If the named champion cannot serve, the previous one does; if a named version of a view is not declared, the
        view serves as the champion was trained on it.
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
