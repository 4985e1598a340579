"""Report at the end of `make run`: quality, parity and speed, each recomputable from the exported rows."""

from __future__ import annotations

import io
import math
import struct
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from candor.clock import format_rfc3339
from candor.contracts import Application, Checkout, Event
from candor.decision import decided, parse_record
from candor.model.bundle import Bundle
from candor.model.lightgbm import Booster
from demo.progress import Posted
from demo.recomputed import Vector, declared_by_hash, recompute
from history.archive.events import accepted_events, read_envelopes
from history.asof.point_in_time import PointInTimeQuery, point_in_time
from lender import DEFINITIONS
from training.metrics.scores import auc, auc_interval

BITS = struct.Struct("<d")


@dataclass(frozen=True)
class DecidedRow:
    """One decided checkout: the source's label, the latency, and the record with its logged vector."""

    id: str
    label: int | None
    latency_ms: float
    record: Mapping[str, Any]

    @cached_property
    def vector(self) -> list[float]:
        """The logged vector; null in the record becomes NaN."""
        return [math.nan if value is None else value for value in self.record["vector"]["values"]]

    @property
    def definition_hash(self) -> str:
        """Hash of the definitions by which the vector was logged."""
        return str(self.record["definition_hash"])

    @property
    def question(self) -> PointInTimeQuery:
        """The same checkout as a query to the point-in-time engine."""
        checkout = msgspec.convert(self.record["request"], Checkout)
        return PointInTimeQuery(self.id, self.record["q"], Application(checkout, self.record["merchant_id"]))


@dataclass(frozen=True)
class Parity:
    """Numbers of vectors and of values, and of those that are equal bit for bit."""

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
class ReportEvidence:
    """Input of the report: decided rows, every seed's raw scores, the vectors computed from the archive, the bundle.

    `offline` and `leaky` are None for a row whose definitions are no longer declared. `names` holds the features'
    names by the hash of the definitions.
    """

    rows: Sequence[DecidedRow]
    seed_scores: Mapping[str, Sequence[float]]
    events: int
    offline: Sequence[Vector | None]
    leaky: Sequence[Vector | None]
    names: Mapping[str, Sequence[str]]
    bundle: Bundle

    @property
    def earlier(self) -> int:
        """Number of rows that a model of other definitions than the current ones decided."""
        return sum(row.definition_hash != DEFINITIONS.hash for row in self.rows)


def report(evidence: ReportEvidence, rows_file: Path, examples: Iterable[str]) -> Iterator[str]:
    """Lines of the report; writes the exported rows to `rows_file`. `examples` are lines with commands to paste."""
    rows = evidence.rows
    outcomes = Counter(str(row.record["outcome"]) for row in rows)
    yield ""
    yield f"decisions={len(rows)} " + " ".join(f"{name}={count}" for name, count in sorted(outcomes.items()))
    yield f"approval_rate={outcomes['approved'] / len(rows):.3f} degraded={sum(r.record['degraded'] for r in rows)}"
    yield _quality(rows, evidence.seed_scores)
    yield _validation(evidence.bundle)
    yield from _earlier_definitions(evidence)
    yield from _parity(evidence)
    yield _speed([row.latency_ms for row in rows])
    yield f"rows={write_rows(rows_file, evidence)}"
    yield ""
    yield from examples
    yield ""


def gather(
    posted: Sequence[Posted],
    records: Sequence[bytes],
    archive: Path,
    models: Mapping[str, str],
    bundle: Bundle,
    trained: Mapping[str, Sequence[str]],
) -> ReportEvidence:
    """Compute the logged vectors again from the archive, with and without a leak, and every seed's scores.

    `records` are the decision records of `posted`, in its order; `archive` holds the event archive's objects; `models`
    are model texts by training seed, and `bundle` is that of their run. `trained` holds the feature names of the models
    that decided, by the hash of their definitions.
    """
    rows = [
        DecidedRow(post.checkout.id, post.checkout.label, post.latency_ms, msgspec.json.decode(record))
        for post, record in zip(posted, records, strict=True)
    ]
    questions, hashes = [row.question for row in rows], [row.definition_hash for row in rows]
    events = list(accepted_events(read_envelopes(archive), DEFINITIONS))
    # Synchronous views know a decision by its record; a copy that the archive holds as well counts once.
    events += (decided(parse_record(record), DEFINITIONS) for record in records)
    offline, leaky = recompute(declared_by_hash(DEFINITIONS, trained), hashes, questions, events)
    scores = seed_scores(models, _scored(rows, events))
    names = {**trained, DEFINITIONS.hash: DEFINITIONS.features}
    return ReportEvidence(rows, scores, len(events), offline, leaky, names, bundle)


def _scored(rows: Sequence[DecidedRow], events: Sequence[Event]) -> list[Sequence[float]]:
    """Vectors of the current definitions: as logged, or from the archive if a model of other ones decided."""
    other = [row for row in rows if row.definition_hash != DEFINITIONS.hash]
    table = point_in_time(DEFINITIONS, events, [row.question for row in other]) if other else None
    computed = {} if table is None else {row.id: table.vector(index) for index, row in enumerate(other)}
    return [computed.get(row.id, row.vector) for row in rows]


def seed_scores(models: Mapping[str, str], vectors: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Raw scores (log odds) of every training seed's model on the vectors, by seed."""
    scores = {}
    for seed, text in models.items():
        with Booster(text) as booster:
            scores[seed] = [booster.raw(vector) for vector in vectors]
    return scores


def _quality(rows: Sequence[DecidedRow], scores: Mapping[str, Sequence[float]]) -> str:
    known = [index for index, row in enumerate(rows) if row.label is not None]
    labels = np.array([rows[index].label for index in known])
    if len(set(labels.tolist())) < 2:
        return "auc_decided=n/a (it needs good and bad checkouts with known outcome)"
    by_seed = {seed: np.array(raw)[known] for seed, raw in scores.items()}
    each = {seed: auc(labels, values) for seed, values in by_seed.items()}
    interval = auc_interval(labels, list(by_seed.values()))
    seeds = " ".join(f"{seed}:{value:.4f}" for seed, value in each.items())
    days = [_day(row.record["q"]) for row in (rows[known[0]], rows[known[-1]])]
    return (
        f"auc_decided={sum(each.values()) / len(each):.4f} (the models that serve, on {len(known)} checkouts decided "
        f"{days[0]} to {days[1]} whose outcome the source knows, {int(labels.sum())} bad; mean of {len(each)} training "
        f"seeds: {seeds}; 95 % bootstrap {interval.low:.3f} to {interval.high:.3f})"
    )


def _validation(bundle: Bundle) -> str:
    """Line of the AUC that the training measured, which the model report, `candor models list` and the gates show."""
    metrics, as_of = bundle.metrics, str(bundle.lineage["as_of"])[:10]
    return (
        f"auc_validation={metrics['auc_served']:.4f} (before it served: a model of the earlier part of the training set, "
        f"on the latest {metrics['n']} checkouts, from {_day(metrics['period_from'])} on, {metrics['bads']} bad, labels "
        f"known by {as_of}; serving seed, mean of all {metrics['auc']:.4f}; the AUC of the model report)"
    )


def _day(ms: int) -> str:
    return format_rfc3339(ms)[:10]


def _earlier_definitions(evidence: ReportEvidence) -> Iterator[str]:
    """Line that says how many decisions rest on other definitions, and what was done with them; none if all fit."""
    if not evidence.earlier:
        return
    left_out = sum(vector is None for vector in evidence.offline)
    parity = f"the parity leaves out {left_out}, whose definitions are no longer declared"
    yield (
        f"earlier_definitions={evidence.earlier} (checkouts decided before the definitions changed keep their decision; "
        "auc_decided is of the models that serve, on vectors computed from the archive; "
        f"{parity if left_out else 'the parity is by the definitions that decided'})"
    )


def _parity(evidence: ReportEvidence) -> Iterator[str]:
    same, leak = compare(evidence.rows, evidence.offline), compare(evidence.rows, evidence.leaky)
    if not same.vectors:
        yield "parity=n/a (no decision rests on definitions that are still declared: `make reset` decides all again)"
        return
    yield (
        f"parity={same} (logged at decision time against set-based from {evidence.events} archived events: "
        f"{same.equal_vectors} of {same.vectors} vectors, {same.equal_values} of {same.values} values "
        "equal bit for bit)"
    )
    yield (
        f"leaky_parity={leak} (the same join looking 30 days ahead: {leak.vectors - leak.equal_vectors} vectors, "
        f"{leak.values - leak.equal_values} values differ, as they must)"
    )


def compare(rows: Sequence[DecidedRow], offline: Sequence[Vector | None]) -> Parity:
    """Compare logged vectors with offline ones, bit by bit; rows without an offline vector are left out."""
    pairs = [(row.vector, vector) for row, vector in zip(rows, offline, strict=True) if vector is not None]
    equal = [
        sum(a == b for a, b in zip(map(bits, logged), map(bits, vector), strict=True))
        for logged, vector in pairs
    ]
    sizes = [len(logged) for logged, _ in pairs]
    whole = sum(number == size for number, size in zip(equal, sizes, strict=True))
    return Parity(len(pairs), whole, sum(sizes), sum(equal))


def bits(value: float) -> bytes:
    """The eight bytes of a float64; every NaN gives the same bytes."""
    return BITS.pack(math.nan if math.isnan(value) else value)


def _speed(latencies: Sequence[float]) -> str:
    p50, p99 = np.percentile(latencies, [50, 99])
    return (
        f"p50={p50:.1f} ms p99={p99:.1f} ms (over HTTP on this machine: the local system's figure, not AWS's)"
    )


def write_rows(path: Path, evidence: ReportEvidence) -> Path:
    """Write one JSON line per checkout, from which every figure can be recomputed; NaN is null."""
    with path.open("wb") as lines:
        for index in range(len(evidence.rows)):
            lines.write(msgspec.json.encode(_exported(evidence, index)) + b"\n")
    return path


def _exported(evidence: ReportEvidence, index: int) -> dict[str, Any]:
    row = evidence.rows[index]
    names = evidence.names.get(row.definition_hash)
    return {
        "id": row.id,
        "q": format_rfc3339(row.record["q"]),
        "label": row.label,
        "score": row.record["score"],
        "seed_scores": {seed: scores[index] for seed, scores in evidence.seed_scores.items()},
        "outcome": row.record["outcome"],
        "decision_id": row.record["id"],
        "vector": _named(names, row.vector),
        "vector_from_archive": _named(names, evidence.offline[index]),
        "vector_from_leaky_join": _named(names, evidence.leaky[index]),
    }


def _named(names: Sequence[str] | None, values: Sequence[float] | None) -> dict[str, float] | None:
    """Values by feature; None where the names or the values are unknown."""
    return None if names is None or values is None else dict(zip(names, values, strict=True))


def models_in(archive: bytes) -> dict[str, str]:
    """Model texts by seed from a training job's model.tar.gz."""
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
