"""Monitoring report of one model: served data against its training snapshot, labels against its predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candor.clock import DAY, format_rfc3339
from candor.features.definitions import Definitions
from candor.features.units import units
from candor.model.bundle import Bundle
from candor.units import money
from training.metrics.drift import Bins, jensen_shannon, missing_rate, psi, psi_by_chance, state_of
from training.metrics.intervals import ConfidenceInterval, rate_interval
from training.monitoring.figures import (
    CalibrationCheck,
    bad_rate_ratio,
    calibration,
    rate_difference,
)
from training.monitoring.population import Served, TrainingSnapshot, amount_bands, customers, in_bands
from training.monitoring.vintages import Loans, Vintage, vintages

BY_CHANCE: Final = 0.01
"""Probability that a report on an unchanged population calls any of its features shifted."""

RECENT: Final = 7 * DAY
"""Length (ms) of the latest period, whose approval rate is compared with that of the time before."""

FEWEST: Final = 100
"""Least number of decisions to test for a shift."""

SEGMENTS_SHOWN: Final = 10
"""Number of values of a segment that are shown, the most frequent ones."""

_PERIODS: Final = ((31 * DAY, DAY), (400 * DAY, 7 * DAY))

_MONDAY: Final = 4 * DAY
"""1970 began with a Thursday."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Drift:
    """Shift of a feature or of the score between snapshot and served data, with the missing rates of both.

    `by_chance` is the PSI that chance alone exceeds in one report of a hundred. `bins` holds (label, count in the
    snapshot, count served).
    """

    name: str
    psi: float
    jsd: float
    by_chance: float
    state: str
    missing: tuple[float, float]
    bins: Sequence[tuple[str, int, int]]


@dataclass(frozen=True)
class ApprovalPeriod:
    """Numbers of decisions and approvals in the period that begins at `start` (ms UTC)."""

    start: int
    n: int
    approved: int

    @property
    def rate(self) -> float:
        return self.approved / self.n

    @property
    def interval(self) -> ConfidenceInterval:
        return rate_interval(self.approved, self.n)


@dataclass(frozen=True)
class PopulationSegment:
    """Figures of a segment of the decisions.

    `score_psi` is against the same segment of the snapshot, None where that is unknown or too small.
    """

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
    """Approval rate over time, by periods of `length` (ms); one without decisions is left out.

    `change` is the rate of the last seven days less that of the days before, None without both.
    """

    periods: Sequence[ApprovalPeriod]
    length: int
    change: float | None
    change_interval: ConfidenceInterval | None


@dataclass(frozen=True)
class Monitoring:
    """The monitoring report of one model. Moments are ms UTC; labels can be known up to `observed_until`.

    `units` are those of the features, `currencies` those of the decisions: money is in their minor units.
    """

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
    calibration: CalibrationCheck | None
    vintages: Sequence[Vintage]
    approvals: Approvals
    segments: Sequence[PopulationSegment]
    units: Mapping[str, str]
    currencies: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Content of report.json."""
        moments = {name: format_rfc3339(getattr(self, name)) for name in ("since", "until", "observed_until")}
        content = {name: value for name, value in asdict(self).items() if name not in moments}
        content["vintages"] = [
            asdict(vintage)
            | {"immature": vintage.immature}
            | {"by_age": [asdict(cell) | {"bad_rate": cell.bad_rate} for cell in vintage.by_age]}
            for vintage in self.vintages
        ]
        content["approvals"]["periods"] = [
            {
                "start": format_rfc3339(period.start),
                "n": period.n,
                "approved": period.approved,
                "rate": period.rate,
            }
            for period in self.approvals.periods
        ]
        return {**moments, **content}


def monitor(
    bundle: Bundle,
    definitions: Definitions,
    snapshot: TrainingSnapshot,
    served: Served,
    *,
    since: int,
    until: int,
    observed_until: int,
) -> Monitoring:
    """Compare served decisions with the snapshot. Needs at least one decision."""
    drifts = [
        _drift(
            name, snapshot.values[:, index], served.values[:, index], 1.0 - BY_CHANCE / len(bundle.features)
        )
        for index, name in enumerate(bundle.features)
    ]
    is_mature = mature(served, observed_until)
    bad = np.array([loan is not None and loan.bad for loan in served.loans], dtype=bool)
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
        population=_population(served, is_mature),
        score=_drift("score", snapshot.pd, served.pd, 1.0 - BY_CHANCE),
        features=sorted(drifts, key=lambda drift: -drift.psi),
        calibration=calibration(bad[is_mature], served.pd[is_mature]),
        vintages=vintages(_loans(served), observed_until),
        approvals=_approvals(served),
        segments=list(_segments(bundle, definitions, snapshot, served, is_mature)),
        units=units(definitions),
        currencies=sorted(served.currencies),
    )


def mature(served: Served, observed_until: int) -> Mask:
    """Mask of decisions whose loan has a known label; a decision without a loan has none."""
    return np.array(
        [loan is not None and loan.known_at < observed_until for loan in served.loans], dtype=bool
    )


def _loans(served: Served) -> Loans:
    held = [(index, loan) for index, loan in enumerate(served.loans) if loan is not None]
    return Loans(
        np.array([loan.began for _, loan in held], dtype=np.int64),
        np.array([loan.known_at for _, loan in held], dtype=np.int64),
        np.array([loan.bad for _, loan in held], dtype=bool),
        served.pd[[index for index, _ in held]],
    )


def _population(served: Served, is_mature: Mask) -> dict[str, Any]:
    n, loans = len(served.q), sum(loan is not None for loan in served.loans)
    return {
        "decisions": n,
        "left_out": dict(served.left_out),
        "scored_by_itself": int(served.own.sum()),
        "scored_again": int(n - served.own.sum()),
        "outcomes": dict(sorted(Counter(served.outcome).items())),
        "degraded": int(served.degraded.sum()),
        "degraded_share": float(served.degraded.mean()),
        "loans": loans,
        "mature": int(is_mature.sum()),
        "immature": int(loans - is_mature.sum()),
        "states": {view: dict(sorted(states.items())) for view, states in served.states.items()},
    }


def _drift(name: str, before: NDArray[np.float64], now: NDArray[np.float64], level: float) -> Drift:
    bins = Bins.frozen(before)
    before_counts, now_counts = bins.counts(before), bins.counts(now)
    index, by_chance = psi(before_counts, now_counts), psi_by_chance(before_counts, now_counts, level)
    return Drift(
        name=name,
        psi=index,
        jsd=jensen_shannon(before_counts, now_counts),
        by_chance=by_chance,
        state=state_of(index, by_chance),
        missing=(missing_rate(before), missing_rate(now)),
        bins=list(zip(bins.labels(), before_counts.tolist(), now_counts.tolist(), strict=True)),
    )


def _approvals(served: Served) -> Approvals:
    span = int(served.q[-1] - served.q[0])
    step = next((step for most, step in _PERIODS if span <= most), 28 * DAY)
    starts = (served.q - _MONDAY) // step * step + _MONDAY
    approved = served.approved
    periods = [
        ApprovalPeriod(int(start), int((starts == start).sum()), int(approved[starts == start].sum()))
        for start in np.unique(starts)
    ]
    recent = served.q > served.q[-1] - RECENT
    now, before = int(recent.sum()), int((~recent).sum())
    if not before:
        return Approvals(periods, step, None, None)
    change = rate_difference(int(approved[recent].sum()), now, int(approved[~recent].sum()), before)
    return Approvals(periods, step, *change)


def _segments(
    bundle: Bundle, definitions: Definitions, snapshot: TrainingSnapshot, served: Served, is_mature: Mask
) -> Iterator[PopulationSegment]:
    """Yield segments by customer, amount band, outcome and largest merchants; the snapshot knows only the first two."""
    level = 1.0 - BY_CHANCE
    now = customers(definitions, bundle.features, served.values)
    before = customers(definitions, bundle.features, snapshot.values)
    parts: list[tuple[str, str, Mask, Mask | None]] = []
    if now is not None and before is not None:
        was = np.array(before)
        parts += [("customer", value, rows, was == value) for value, rows in _each(now)]
    edges, text = amount_bands(snapshot), partial(money, currencies=served.currencies)
    banded = zip(in_bands(served.amount, edges, text), in_bands(snapshot.amount, edges, text), strict=True)
    parts += [("amount", value, rows, snapshot_rows) for (value, rows), (_, snapshot_rows) in banded]
    parts += [("outcome", value, rows, None) for value, rows in _each(served.outcome)]
    parts += [("merchant", value, rows, None) for value, rows in _each(served.merchant)]
    for by, value, rows, snapshot_rows in parts:
        if rows.any():
            drift = None
            if snapshot_rows is not None and min(rows.sum(), snapshot_rows.sum()) >= FEWEST:
                drift = _drift(value, snapshot.pd[snapshot_rows], served.pd[rows], level)
            yield _segment(by, value, served, rows, rows & is_mature, drift)


def _each(values: Sequence[str]) -> list[tuple[str, Mask]]:
    """The most frequent values, each with the mask of its rows."""
    array = np.array(values)
    return [(value, array == value) for value, _ in Counter(values).most_common(SEGMENTS_SHOWN)]


def _segment(
    by: str, value: str, served: Served, rows: Mask, known: Mask, drift: Drift | None
) -> PopulationSegment:
    bads = sum(loan.bad for loan, is_known in zip(served.loans, known, strict=True) if loan and is_known)
    predicted = float(served.pd[known].mean()) if known.any() else None
    return PopulationSegment(
        by=by,
        value=value,
        n=int(rows.sum()),
        approved=int(served.approved[rows].sum()),
        degraded=int(served.degraded[rows].sum()),
        mean_pd=float(served.pd[rows].mean()),
        score_psi=None if drift is None else drift.psi,
        score_state=None if drift is None else drift.state,
        mature=int(known.sum()),
        bads=int(bads),
        predicted=predicted,
        ratio=bad_rate_ratio(int(bads), float(served.pd[known].sum()))[0] if known.any() else None,
    )
