"""What `make run` says at its end: quality, parity and speed, each recomputable from the exported rows."""

from __future__ import annotations

import io
import math
import struct
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from candor.clock import format_rfc3339
from candor.contracts import Application, Checkout
from candor.decision import decided, parse_record
from candor.model.engine import Booster
from candor.store.dynamodb import DynamoDecisionStore
from history.archive.events import accepted_events, read_envelopes
from history.asof.point_in_time import FeatureTable, PointInTimeQuery, point_in_time
from lender import DEFINITIONS
from local.errors import LocalError
from training.metrics.scores import auc, auc_interval

if TYPE_CHECKING:
    from demo.run import Journey

BITS = struct.Struct("<d")


@dataclass(frozen=True)
class Row:
    """One decided checkout: what the source knows, what was decided, and the vector as it was logged."""

    id: str
    label: int | None
    latency_ms: float
    record: Mapping[str, Any]

    @cached_property
    def vector(self) -> list[float]:
        """The logged vector; null in the record is NaN."""
        return [math.nan if value is None else value for value in self.record["vector"]["values"]]

    @property
    def question(self) -> PointInTimeQuery:
        """The same checkout as a question to the offline engine."""
        checkout = msgspec.convert(self.record["request"], Checkout)
        return PointInTimeQuery(self.id, self.record["q"], Application(checkout, self.record["merchant_id"]))


@dataclass(frozen=True)
class Parity:
    """How many vectors, and how many of their values, are equal bit for bit."""

    vectors: int
    equal_vectors: int
    values: int
    equal_values: int

    @property
    def percent(self) -> float:
        """Equal vectors in percent; 100 only if every bit is equal."""
        return 100 * self.equal_vectors / self.vectors if self.vectors else 0.0

    def __str__(self) -> str:
        exact = f"{self.percent:.2f}".rstrip("0").rstrip(".")
        return exact if self.equal_vectors == self.vectors else min(exact, "99.99", key=float)


@dataclass(frozen=True)
class Evidence:
    """What the report rests on: decided rows, every seed's raw scores, and the vectors computed from the archive."""

    rows: Sequence[Row]
    seed_scores: Mapping[str, Sequence[float]]
    events: int
    offline: FeatureTable
    leaky: FeatureTable


def report(journey: Journey) -> Iterator[str]:
    """The lines of the report. Writes the rows as it goes. Raises LocalError if nothing was decided."""
    evidence = gather(journey)
    rows = evidence.rows
    outcomes = Counter(str(row.record["outcome"]) for row in rows)
    yield ""
    yield f"decisions={len(rows)} " + " ".join(f"{name}={count}" for name, count in sorted(outcomes.items()))
    yield f"approval_rate={outcomes['approved'] / len(rows):.3f} degraded={sum(r.record['degraded'] for r in rows)}"
    yield _quality(rows, evidence.seed_scores)
    yield from _parity(evidence)
    yield _speed([row.latency_ms for row in rows])
    yield f"rows={write_rows(journey.folder / 'rows.jsonl', evidence)}"
    yield ""
    yield "Decide one checkout yourself, while it serves:"
    yield journey.curl()
    yield ""


def gather(journey: Journey) -> Evidence:
    """Read back what was decided, and compute the same vectors from the archive, with and without a leak."""
    records = _records(journey)
    rows = [
        Row(posted.checkout.id, posted.checkout.label, posted.latency_ms, msgspec.json.decode(record))
        for posted, record in zip(journey.posted(), records, strict=True)
    ]
    if not rows:
        raise LocalError("no checkout was decided: choose a larger SIZE=")
    questions = [row.question for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        journey.download_archive(Path(folder))
        events = list(accepted_events(read_envelopes(Path(folder)), DEFINITIONS))
    # Synchronous views know a decision by its record; a copy that the archive holds as well counts once.
    events += (decided(parse_record(record), DEFINITIONS) for record in records)
    # What was known at each moment: the journey loads all its events as history, known from their own moment.
    offline = point_in_time(DEFINITIONS, events, questions)
    leaky = point_in_time(DEFINITIONS, events, questions, leaky=True)
    return Evidence(rows, seed_scores(journey, rows), len(events), offline, leaky)


def _records(journey: Journey) -> list[bytes]:
    outputs = journey.outputs
    tables = outputs["FeaturesTableName"], outputs["DecisionsTableName"]
    store = DynamoDecisionStore(*tables, pointer=lambda: (None, None))
    ids = [posted.decision_id for posted in journey.posted()]
    found = store.get_many(ids)
    return [found[decision_id].record for decision_id in ids]


def seed_scores(journey: Journey, rows: Sequence[Row]) -> dict[str, list[float]]:
    """Raw scores (log odds) of every training seed's model on the logged vectors, by seed."""
    scores = {}
    for seed, text in journey.seed_models().items():
        with Booster(text) as booster:
            scores[seed] = [booster.raw(row.vector) for row in rows]
    return scores


def _quality(rows: Sequence[Row], scores: Mapping[str, Sequence[float]]) -> str:
    known = [place for place, row in enumerate(rows) if row.label is not None]
    labels = np.array([rows[place].label for place in known])
    if len(set(labels.tolist())) < 2:
        return "auc=n/a (it needs good and bad checkouts with known outcome)"
    by_seed = {seed: np.array(found)[known] for seed, found in scores.items()}
    each = {seed: auc(labels, found) for seed, found in by_seed.items()}
    interval = auc_interval(labels, list(by_seed.values()))
    seeds = " ".join(f"{seed}:{value:.4f}" for seed, value in each.items())
    return (
        f"auc={sum(each.values()) / len(each):.4f} (mean of {len(each)} training seeds: {seeds}; "
        f"95 % bootstrap {interval.low:.3f} to {interval.high:.3f}; {len(known)} checkouts with known outcome, {int(labels.sum())} bad)"
    )


def _parity(evidence: Evidence) -> Iterator[str]:
    same, leak = compare(evidence.rows, evidence.offline), compare(evidence.rows, evidence.leaky)
    yield (
        f"parity={same} (logged at decision time against set-based from {evidence.events} archived events: "
        f"{same.equal_vectors} of {same.vectors} vectors, {same.equal_values} of {same.values} values equal bit for bit)"
    )
    yield (
        f"leaky_parity={leak} (the same join told to look 30 days ahead: {leak.vectors - leak.equal_vectors} vectors, "
        f"{leak.values - leak.equal_values} values differ, as they must)"
    )


def compare(rows: Sequence[Row], offline: FeatureTable) -> Parity:
    """Logged vectors against offline ones, bit by bit."""
    equal_vectors = equal_values = 0
    for place, row in enumerate(rows):
        equal = sum(
            a == b for a, b in zip(map(bits, row.vector), map(bits, offline.vector(place)), strict=True)
        )
        equal_values += equal
        equal_vectors += equal == len(row.vector)
    return Parity(len(rows), equal_vectors, sum(len(row.vector) for row in rows), equal_values)


def bits(value: float) -> bytes:
    """The eight bytes of a float64; every NaN is the same missing value."""
    return BITS.pack(math.nan if math.isnan(value) else value)


def _speed(latencies: Sequence[float]) -> str:
    p50, p99 = np.percentile(latencies, [50, 99])
    return (
        f"p50={p50:.1f} ms p99={p99:.1f} ms (over HTTP on this machine: the local system's figure, not AWS's)"
    )


def write_rows(path: Path, evidence: Evidence) -> Path:
    """One JSON line a checkout, from which every figure above can be recomputed; NaN is null."""
    with path.open("wb") as lines:
        for place in range(len(evidence.rows)):
            lines.write(msgspec.json.encode(_exported(evidence, place)) + b"\n")
    return path


def _exported(evidence: Evidence, place: int) -> dict[str, Any]:
    row = evidence.rows[place]
    return {
        "id": row.id,
        "q": format_rfc3339(row.record["q"]),
        "label": row.label,
        "score": row.record["score"],
        "seed_scores": {seed: found[place] for seed, found in evidence.seed_scores.items()},
        "outcome": row.record["outcome"],
        "decision_id": row.record["id"],
        "vector": _named(row.vector),
        "vector_from_archive": _named(evidence.offline.vector(place)),
        "vector_from_leaky_join": _named(evidence.leaky.vector(place)),
    }


def _named(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(DEFINITIONS.features, values, strict=True))


def models_in(archive: bytes) -> dict[str, str]:
    """Model texts by seed out of a training job's model.tar.gz."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        seeds = sorted(
            (member for member in tar if member.isfile() and Path(member.name).parent.name == "seeds"),
            key=lambda member: int(Path(member.name).stem),
        )
        return {Path(member.name).stem: _text(tar, member) for member in seeds}


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = tar.extractfile(member)
    if content is None:
        raise FileNotFoundError(member.name)
    return content.read().decode()
