"""Faults of a world, their rates, and ten bugs that a check of this simulation must detect."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import polars as pl

from candor.errors import StoreUnavailable
from candor.features.plan import Row, ViewPlan
from candor.features.state import ViewState
from candor.features.vector import Version
from candor.features.voids import VoidEvidence
from candor.features.windows import Window
from candor.store.protocol import Commit, Committed, Conflict, Duplicates
from history.asof import stream
from simulation.store import Client, Table

KINDS = (
    "throttled",
    "request lost",
    "request late",
    "answer lost",
    "client retried",
    "transaction conflict",
    "read unavailable",
    "killed",
    "stalled",
    "delivered twice",
    "delete lost",
)
"""Faults of the surroundings; each world has some of them."""


def fault_rates(rng: random.Random) -> dict[str, float]:
    """Draw the probability of each fault.

    A world without some kinds reaches states that a world with all of them does not. A batch has about thirty points
    at which it can be killed: with higher rates a copy would not be finished within the horizon of ids.
    """
    most = {"killed": 0.07}
    return {kind: rng.choice([0.0, rng.uniform(0.0, most.get(kind, 0.15))]) for kind in KINDS}


@contextmanager
def patched_limits(rng: random.Random) -> Iterator[dict[str, int]]:
    """Patch limits to small values in most worlds, so that few events reach them; others run as shipped."""
    shipped = rng.random() < 0.25
    head = rng.choice([1, 4, 32])
    ring, markers = rng.choice([4, 12, 40]), rng.choice([2, 5, 99])
    limits = {
        "candor.features.state.RING_IDS": ring,
        "candor.ingest.RING_IDS": ring,
        "candor.ingest.LARGEST_IDS": rng.choice([20, 60, 13_464]),
        "candor.features.segment.HEAD_EVENTS": head,
        "candor.features.segment.MOST_RAW": max(head, rng.choice([4, 128])),
        "candor.features.voids.MOST_VOIDS": max(head, rng.choice([2, 32])),
        "candor.ingest.ATTEMPTS": rng.choice([2, 12]),
        "candor.ingest.MARKERS_PER_COMMIT": markers,
        "simulation.store.MARKERS_PER_COMMIT": markers,
    }
    patches = [] if shipped else [patch(name, limit) for name, limit in limits.items()]
    for patcher in patches:
        patcher.start()
    try:
        yield {} if shipped else limits
    finally:
        for patcher in patches:
            patcher.stop()


class NoMarkersTable(Table):
    """Bug: forgets which events have markers."""

    def known(self, commit: Commit) -> frozenset[str]:
        return frozenset()


class SameBirthTable(Table):
    """Bug: gives every birth of an item the same number."""

    def birth(self, now_ms: int) -> int:
        return 1


class ForgetfulClaimsTable(Table):
    """Bug: a bulk job that is run again does not know which of its items are done."""

    def write_claimed(self, commit: Commit, version: Version) -> Committed | Conflict | Duplicates:
        self.completions.clear()
        return super().write_claimed(commit, version)


class DeafClient(Client):
    """Bug: treats a conflict as success, so the events are acknowledged and not applied again."""

    def commit(self, commit: Commit) -> Committed | Conflict | Duplicates:
        outcome = super().commit(commit)
        return Committed(Version(1, 1)) if isinstance(outcome, Conflict) else outcome


class SplitClient(Client):
    """Bug: writes the markers before the item."""

    def write(self, commit: Commit, version: Version) -> Committed | Conflict | Duplicates:
        if commit.marker_expiry is None:
            return super().write(commit, version)
        if known := self.table.known(commit):
            return Duplicates(known)
        self.table.mark(commit)
        self.process.io("wrote markers alone")
        if not self.table.unchanged(commit):
            raise StoreUnavailable("the item changed between markers and item")
        self.table.put(commit, version)
        return Committed(version)


def _forgetful(state: ViewState, *arguments: Any) -> Any:
    state.ring.clear()
    return _apply(state, *arguments)


def _narrow(window: Window, q: int) -> int | None:
    start = _start(window, q)
    return None if start is None else start + 1


def _subtracted(_state: ViewState, *_arguments: Any) -> VoidEvidence:
    return VoidEvidence.COUNTED


def _same(_plan: ViewPlan, _row: Row) -> int:
    return 1


def _unknown(_events: pl.DataFrame, _knowledge: str) -> pl.Expr:
    return pl.lit(None, pl.Int64).alias("known_at")


def _never_expired(state: ViewState, rows: Sequence[Row]) -> Sequence[Row]:
    if rows:
        moments = [int(row[0]) for row in rows]
        state.born = min(moments if state.born is None else [state.born, *moments])
        state.latest = max(state.latest, *moments)
    return rows


_apply, _start = ViewState.apply, Window.start


class Plant:
    """A planted bug: a table, a client, or an attribute of candor that is replaced while the world runs."""

    def __init__(
        self,
        table: type[Table] = Table,
        client: type[Client] = Client,
        replaced: tuple[Any, str, Any] | None = None,
    ) -> None:
        self.table = table
        self.client = client
        self._replaced = replaced

    def active(self) -> Any:
        """Return the context in which the replacement is active."""
        return patch.object(*self._replaced) if self._replaced else nullcontext()


HEALTHY = Plant()
PLANTS = {
    "no-dedupe": Plant(table=NoMarkersTable, replaced=(ViewState, "apply", _forgetful)),
    "lost-conflict-retry": Plant(client=DeafClient),
    "window-edge-off-by-one": Plant(replaced=(Window, "start", _narrow)),
    "marker-without-transaction": Plant(client=SplitClient),
    "version-reuse-after-expiry": Plant(table=SameBirthTable),
    "import-done-twice": Plant(table=ForgetfulClaimsTable),
    "orphan-subtracted": Plant(replaced=(ViewState, "_resolve", _subtracted)),
    "voids-own-data-used": Plant(replaced=(ViewPlan, "fingerprint", _same)),
    "correction-known-too-early": Plant(replaced=(stream, "_known_at", _unknown)),
    "sweep-decides": Plant(replaced=(ViewState, "_counting", _never_expired)),
}
"""Planted bugs by their name in ``CANDOR_PLANTED_FAULT``."""
