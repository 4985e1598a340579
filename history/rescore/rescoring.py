"""`python -m history.rescore.rescoring`: score and decide past decisions with one bundle and one policy, as Parquet.

Runs under SageMaker Processing's contract: archived decisions in `input/decisions`, `bundle.json` and, if it differs
from the bundle's, `policy.json` in `input/order`; one file `part.parquet` in `output/rescored`. On one machine the
same function reads the archive itself. No column identifies a person.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from candor.decision import Decision, approved_amount
from candor.errors import CandorError
from candor.model.bundle import Bundle, sha256
from candor.policy import Policy
from candor.underwriting import Assessment, LoadedBundle
from history.archive.decisions import made_at, read_decisions
from history.archive.events import ArchiveDamaged
from history.archive.objects import Folder
from history.replay.as_decided import reassess
from history.rescore.backtest import NO_SCORE, OTHER_FEATURES

PART: Final = "part.parquet"
ROWS_AT_ONCE: Final = 50_000

_TEXTS: Final = pa.list_(pa.string())
SCHEMA: Final = pa.schema(
    [
        ("decision_id", pa.string()),
        ("merchant_id", pa.string()),
        ("q", pa.int64()),
        ("made_at", pa.int64()),
        ("currency", pa.string()),
        ("asked", pa.int64()),
        ("bundle_was", pa.string()),
        ("policy_was", pa.string()),
        ("outcome_was", pa.string()),
        ("score_was", pa.float64()),
        ("granted_was", pa.int64()),
        ("outcome", pa.string()),
        ("score", pa.float64()),
        ("granted", pa.int64()),
        ("component", pa.string()),
        ("rules", _TEXTS),
        ("reasons", _TEXTS),
        ("left_out", pa.string()),
    ]
)
"""One row per decision. Moments in ms UTC, amounts in minor units; `left_out` states why a row has no new outcome."""


@dataclass
class Rescored:
    """Number of decisions assessed again, and counts by (outcome before, outcome now)."""

    rows: int = 0
    swaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def take_in(self, row: Mapping[str, Any]) -> None:
        """Count one row."""
        self.rows += 1
        if row["left_out"] is None:
            self.swaps[row["outcome_was"], row["outcome"]] += 1
        else:
            self.left_out[row["left_out"]] += 1

    def as_json(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "rows": self.rows,
            "swaps": {f"{was} → {now}": number for (was, now), number in sorted(self.swaps.items())},
            "left_out": dict(self.left_out),
        }


@dataclass(frozen=True, kw_only=True)
class RescoringCandidate:
    """The bundle that scores, and the policy that decides: the bundle's own or another."""

    model: LoadedBundle
    policy: Policy

    @classmethod
    def of(cls, bundle: bytes, policy: Mapping[str, Any] | None) -> RescoringCandidate:
        """Load from file contents. Raises BundleRefused, PolicyError."""
        sha = sha256(bundle)
        model = LoadedBundle(sha, Bundle.from_bytes(bundle, sha))
        return cls(model=model, policy=model.policy if policy is None else Policy(policy))

    def row(self, decision: Decision) -> dict[str, Any]:
        """Return the row of a past decision, assessed by the candidate."""
        model = self.model
        if model.bundle.definition_hash != decision.definition_hash:
            return _row(decision, None, OTHER_FEATURES)
        assessment = reassess(decision, model, self.policy, model.bundle.features)
        return _row(decision, assessment, None if assessment.score is not None else NO_SCORE)


def rescore(
    decisions: Iterable[Decision], candidate: RescoringCandidate, path: Path, rows_at_once: int = ROWS_AT_ONCE
) -> Rescored:
    """Write one Parquet file and return its counts. An interrupted write leaves no file under this name."""
    result = Rescored()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    metadata = {"bundle": candidate.model.sha, "policy": candidate.policy.hash}
    with pq.ParquetWriter(unfinished, SCHEMA.with_metadata(metadata)) as writer:
        for page in _pages((candidate.row(decision) for decision in decisions), rows_at_once):
            for row in page:
                result.take_in(row)
            writer.write_table(pa.Table.from_pylist(page, SCHEMA.with_metadata(metadata)))
    unfinished.replace(path)
    return result


def made_between(decisions: Iterable[Decision], since: int | None, until: int | None) -> Iterator[Decision]:
    """Yield the decisions made at `since` or later and before `until` (ms UTC)."""
    for decision in decisions:
        recorded = made_at(decision)
        moment = decision.q if recorded is None else recorded
        if (since is None or moment >= since) and (until is None or moment < until):
            yield decision


def counted(paths: Iterable[Path]) -> Rescored:
    """Return the counts of files of an earlier rescoring."""
    result = Rescored()
    for path in paths:
        for row in pq.read_table(path, columns=["outcome_was", "outcome", "left_out"]).to_pylist():
            result.take_in(row)
    return result


def _row(decision: Decision, assessment: Assessment | None, left_out: str | None) -> dict[str, Any]:
    judged = assessment if left_out is None else None
    return {
        "decision_id": decision.id,
        "merchant_id": decision.merchant_id,
        "q": decision.q,
        "made_at": made_at(decision),
        "currency": decision.request.currency,
        "asked": decision.request.total,
        "bundle_was": decision.bundle,
        "policy_was": decision.policy,
        "outcome_was": decision.outcome,
        "score_was": decision.score,
        "granted_was": approved_amount(decision),
        "outcome": judged and judged.outcome,
        "score": judged and judged.score,
        "granted": judged and (judged.terms.amount if judged.terms else 0),
        "component": judged and judged.component,
        "rules": judged and judged.rules,
        "reasons": judged and judged.reasons,
        "left_out": left_out,
    }


def _pages(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    for row in rows:
        page.append(row)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the container; exit code 1 and one line on standard error if nothing can be written."""
    parser = argparse.ArgumentParser(prog="python -m history.rescore.rescoring", description=__doc__)
    parser.add_argument("--since", type=int, help="made at this moment (ms UTC) or later")
    parser.add_argument("--until", type=int, help="made before this moment (ms UTC)")
    options = parser.parse_args(arguments)
    root = Path(os.environ.get("PROCESSING_ROOT", "/opt/ml/processing"))
    order, table = root / "input/order", root / "input/order/policy.json"
    try:
        policy = json.loads(table.read_text()) if table.exists() else None
        candidate = RescoringCandidate.of((order / "bundle.json").read_bytes(), policy)
        decisions = read_decisions(Folder(root / "input/decisions"))
        chosen = made_between(decisions, options.since, options.until)
        result = rescore(chosen, candidate, root / "output/rescored" / PART)
    except (ArchiveDamaged, CandorError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"rescored: {json.dumps(result.as_json(), ensure_ascii=False)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
