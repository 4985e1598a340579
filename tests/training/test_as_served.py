"""Data sets of decisions: the features that were served, and how many differ from those as of the same moments."""

from __future__ import annotations

import gzip
import json
import math

import msgspec
import pyarrow.parquet as pq
import pytest

from candor.clock import DAY
from candor.contracts import parse_checkout
from candor.decision import Decision, to_record
from candor.features.vector import FeatureVector
from history.archive.objects import Folder
from tests.training.conftest import AS_OF, T0, checkout_body, feed_until, loan, small_lender, write_archive
from training.dataset.build import DatasetSpec, Embedded, NothingToLearn, write

DEFINITIONS = small_lender()
NAMES = DEFINITIONS.features


def decision(number: str, q: int, values: list[float], definition_hash: str = DEFINITIONS.hash) -> Decision:
    checkout = parse_checkout(json.dumps(checkout_body(number, "a", 5_000)).encode())
    vector = FeatureVector(values, {}, {})
    return Decision(
        f"dec_{number}", "mer_1", False, q, True, checkout, vector, definition_hash, None, "p", 0.5, 0.4, "approved",
        None, [], [], False, "US", "x",
    )  # fmt: skip


def built(tmp_path, *decisions: Decision) -> tuple[dict, list[dict]]:
    (tmp_path / "decisions").mkdir()
    with gzip.open(tmp_path / "decisions" / "1.gz", "wb") as lines:
        for item in decisions:
            line = {"id": item.id, "q": item.q, "record": msgspec.Raw(to_record(item))}
            lines.write(msgspec.json.encode(line) + b"\n")
    events = [
        *loan("1", "a", T0, days_late=5),
        *loan("2", "a", T0 + 60 * DAY, days_late=0),
        feed_until(AS_OF),
    ]
    write_archive(tmp_path / "in", events)
    engine = Embedded(DEFINITIONS, tmp_path / "in", as_of=AS_OF)
    manifest = write(
        DEFINITIONS, engine, tmp_path / "out", DatasetSpec(AS_OF), decisions=Folder(tmp_path / "decisions")
    )
    return manifest, pq.read_table(tmp_path / "out" / "dataset.parquet").to_pylist()


def test_a_row_is_what_was_served_and_the_manifest_tells_the_difference(tmp_path):
    q = T0 + 60 * DAY
    late = [1.0, 0.0, math.nan, 5.0, 1.0, 5_000.0]  # the first closing had not been applied to the 90 days
    served = decision("2", q, late)
    manifest, rows = built(tmp_path, served, served, decision("9", q, late))
    assert [row["row_id"] for row in rows] == ["chk_2"]
    assert [rows[0][name] for name in NAMES if name != "loans.max_days_late.90d"] == [*late[:2], *late[3:]]
    assert math.isnan(rows[0]["loans.max_days_late.90d"])
    differing = manifest["as_served"]["features_that_differ"]
    assert manifest["as_served"]["rows_that_differ"] == 1
    assert "loans.max_days_late.90d" in differing
    assert "request.amount" not in differing
    assert rows[0]["q"] == q
    assert manifest["rows"] == 1


def test_decisions_on_other_declarations_are_not_taken(tmp_path):
    with pytest.raises(NothingToLearn, match="no decision on these declarations"):
        built(tmp_path, decision("2", T0 + 60 * DAY, [0.0] * len(NAMES), "other"))
