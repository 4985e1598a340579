"""The monitoring report of one model: what was served beside what it was trained on, labels beside its predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candor.clock import DAY, format_rfc3339
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle
from training.metrics.drift import Bins, jensen_shannon, missing_rate, psi, psi_by_chance, state_of
from training.monitoring.figures import (
    Calibration,
    Interval,
    bad_rate_ratio,
    calibration,
    rate_difference,
    rate_interval,
)
from training.monitoring.population import Served, Snapshot, amount_bands, customers, in_bands
from training.monitoring.vintages import Loans, Vintage, vintages

BY_CHANCE: Final = 0.01
"""How often a report of a population that did not shift calls any of its features shifted."""

RECENT: Final = 7 * DAY
"""The latest decisions, whose approval rate is held against that of the others."""

FEWEST: Final = 100
"""Fewer decisions tell nothing about a shift."""

SEGMENTS_SHOWN: Final = 10
"""So many merchants are shown, the largest ones."""

_PERIODS: Final = ((31 * DAY, DAY), (400 * DAY, 7 * DAY))

_MONDAY: Final = 4 * DAY
"""1970 began with a Thursday."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Drift:
    """A feature or the score: its shift between snapshot and served, and the missing rates of both.

    `by_chance` is the PSI that chance alone exceeds in one report of a hundred. `bins` holds for each bin its words and the
    counts of both sides.
    """

    name: str
    psi: float
    jsd: float
    by_chance: float
    state: str
    missing: tuple[float, float]
    bins: Sequence[tuple[str, int, int]]


@dataclass(frozen=True)
class Period:
    """Decisions of one period from `start` (ms UTC) on, and how many of them were approved."""

    start: int
    n: int
    approved: int

    @property
    def rate(self) -> float:
        return self.approved / self.n

    @property
    def interval(self) -> Interval:
        return rate_interval(self.approved, self.n)


@dataclass(frozen=True)
class Segment:
    """A part of the decisions. `score_psi` is against the same part of the snapshot, None where that cannot be told or is small."""

    by: str
    value: str
    n: int
    approved: int
    degraded: int
    mean_pd: float
    score_psi: float | None
    score_state: str | None
    mature: int
    bads: int
    predicted: float | None
    ratio: float | None


@dataclass(frozen=True)
class Approvals:
    """Approval rate over time. `change` is that of the last seven days less that of the days before, None without both."""

    periods: Sequence[Period]
    change: float | None
    change_interval: Interval | None


@dataclass(frozen=True)
class Monitoring:
    """Everything that is told of one model. Moments in ms UTC; `observed_until` is how far labels can be known."""

    run: str
    bundle: str
    cutoff: float
    snapshot: Mapping[str, Any]
    since: int
    until: int
    observed_until: int
    population: Mapping[str, Any]
    score: Drift
    features: Sequence[Drift]
    calibration: Calibration | None
    vintages: Sequence[Vintage]
    approvals: Approvals
    segments: Sequence[Segment]

    def as_json(self) -> dict[str, Any]:
        """JSON form."""
        moments = {name: format_rfc3339(getattr(self, name)) for name in ("since", "until", "observed_until")}
        found = {name: value for name, value in asdict(self).items() if name not in moments}
        found["vintages"] = [
            asdict(one)
            | {"immature": one.immature}
            | {"by_age": [asdict(cell) | {"bad_rate": cell.bad_rate} for cell in one.by_age]}
            for one in self.vintages
        ]
        found["approvals"]["periods"] = [
            {"start": format_rfc3339(one.start), "n": one.n, "approved": one.approved, "rate": one.rate}
            for one in self.approvals.periods
        ]
        return {**moments, **found}


def monitor(
    bundle: Bundle,
    definitions: Definitions,
    snapshot: Snapshot,
    found: Served,
    *,
    since: int,
    until: int,
    observed_until: int,
) -> Monitoring:
    """Compare. Needs one decision at least."""
    drifts = [
        _drift(
            name, snapshot.values[:, place], found.values[:, place], 1.0 - BY_CHANCE / len(bundle.features)
        )
        for place, name in enumerate(bundle.features)
    ]
    is_mature = mature(found, observed_until)
    bad = np.array([loan is not None and loan.bad for loan in found.loans], dtype=bool)
    return Monitoring(
        run=snapshot.run,
        bundle=bundle.sha,
        cutoff=bundle.cutoff,
        snapshot={
            name: snapshot.manifest.get(name) for name in ("rows", "bads", "sha256", "window", "as_of")
        },
        since=since,
        until=until,
        observed_until=observed_until,
        population=_population(found, is_mature),
        score=_drift("score", snapshot.pd, found.pd, 1.0 - BY_CHANCE),
        features=sorted(drifts, key=lambda one: -one.psi),
        calibration=calibration(bad[is_mature], found.pd[is_mature]),
        vintages=vintages(_loans(found), observed_until),
        approvals=_approvals(found),
        segments=list(_segments(bundle, definitions, snapshot, found, is_mature)),
    )


def mature(found: Served, observed_until: int) -> Mask:
    """Decisions whose loan's label is known; without a loan there is none."""
    return np.array([loan is not None and loan.known_at < observed_until for loan in found.loans], dtype=bool)


def _loans(found: Served) -> Loans:
    held = [(place, loan) for place, loan in enumerate(found.loans) if loan is not None]
    return Loans(
        np.array([loan.began for _, loan in held], dtype=np.int64),
        np.array([loan.known_at for _, loan in held], dtype=np.int64),
        np.array([loan.bad for _, loan in held], dtype=bool),
        found.pd[[place for place, _ in held]],
    )


def _population(found: Served, is_mature: Mask) -> dict[str, Any]:
    n, loans = len(found.q), sum(loan is not None for loan in found.loans)
    return {
        "decisions": n,
        "left_out": dict(found.left_out),
        "scored_by_itself": int(found.own.sum()),
        "scored_again": int(n - found.own.sum()),
        "outcomes": dict(sorted(Counter(found.outcome).items())),
        "degraded": int(found.degraded.sum()),
        "degraded_share": float(found.degraded.mean()),
        "loans": loans,
        "mature": int(is_mature.sum()),
        "immature": int(loans - is_mature.sum()),
        "states": {view: dict(sorted(states.items())) for view, states in found.states.items()},
    }


def _drift(name: str, before: NDArray[np.float64], now: NDArray[np.float64], level: float) -> Drift:
    bins = Bins.frozen(before)
    one, other = bins.counts(before), bins.counts(now)
    index, by_chance = psi(one, other), psi_by_chance(one, other, level)
    return Drift(
        name=name,
        psi=index,
        jsd=jensen_shannon(one, other),
        by_chance=by_chance,
        state=state_of(index, by_chance),
        missing=(missing_rate(before), missing_rate(now)),
        bins=list(zip(bins.labels(), one.tolist(), other.tolist(), strict=True)),
    )


def _approvals(found: Served) -> Approvals:
    span = int(found.q[-1] - found.q[0])
    step = next((step for most, step in _PERIODS if span <= most), 28 * DAY)
    starts = (found.q - _MONDAY) // step * step + _MONDAY
    approved = found.approved
    periods = [
        Period(int(start), int((starts == start).sum()), int(approved[starts == start].sum()))
        for start in np.unique(starts)
    ]
    recent = found.q > found.q[-1] - RECENT
    now, before = int(recent.sum()), int((~recent).sum())
    if not before:
        return Approvals(periods, None, None)
    change = rate_difference(int(approved[recent].sum()), now, int(approved[~recent].sum()), before)
    return Approvals(periods, *change)


def _segments(
    bundle: Bundle, definitions: Definitions, snapshot: Snapshot, found: Served, is_mature: Mask
) -> Iterator[Segment]:
    """By customer, amount band and outcome, and the largest merchants; only the first two are known of the snapshot."""
    level = 1.0 - BY_CHANCE
    now = customers(definitions, bundle.features, found.values)
    before = customers(definitions, bundle.features, snapshot.values)
    parts: list[tuple[str, str, Mask, Mask | None]] = []
    if now is not None and before is not None:
        was = np.array(before)
        parts += [("customer", value, mine, was == value) for value, mine in _each(now)]
    edges = amount_bands(snapshot)
    banded = zip(in_bands(found.amount, edges), in_bands(snapshot.amount, edges), strict=True)
    parts += [("amount", value, mine, theirs) for (value, mine), (_, theirs) in banded]
    parts += [("outcome", value, mine, None) for value, mine in _each(found.outcome)]
    parts += [("merchant", value, mine, None) for value, mine in _each(found.merchant)]
    for by, value, mine, theirs in parts:
        if mine.any():
            drift = None
            if theirs is not None and min(mine.sum(), theirs.sum()) >= FEWEST:
                drift = _drift(value, snapshot.pd[theirs], found.pd[mine], level)
            yield _segment(by, value, found, mine, mine & is_mature, drift)


def _each(values: Sequence[str]) -> list[tuple[str, Mask]]:
    """The most frequent values, each with its rows."""
    found = np.array(values)
    return [(value, found == value) for value, _ in Counter(values).most_common(SEGMENTS_SHOWN)]


def _segment(by: str, value: str, found: Served, mine: Mask, known: Mask, drift: Drift | None) -> Segment:
    bads = sum(loan.bad for loan, is_mine in zip(found.loans, known, strict=True) if loan and is_mine)
    predicted = float(found.pd[known].mean()) if known.any() else None
    return Segment(
        by=by,
        value=value,
        n=int(mine.sum()),
        approved=int(found.approved[mine].sum()),
        degraded=int(found.degraded[mine].sum()),
        mean_pd=float(found.pd[mine].mean()),
        score_psi=None if drift is None else drift.psi,
        score_state=None if drift is None else drift.state,
        mature=int(known.sum()),
        bads=int(bads),
        predicted=predicted,
        ratio=bad_rate_ratio(int(bads), float(found.pd[known].sum()))[0] if known.any() else None,
    )
