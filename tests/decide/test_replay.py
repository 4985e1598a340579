"""A decision replays bit for bit from its record and its bundle alone."""

from __future__ import annotations

import json
import math
import random
import struct

import pytest

from candor.clock import DAY, HOUR
from candor.features.vector import UNAVAILABLE
from candor.model.bundle import Bundle
from candor.model.lightgbm import Booster
from candor.policy import Facts, Policy
from candor.principal_reasons import PrincipalReasons
from candor.reasons import Catalogue
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import Snapshot
from tests.decide.lending import NOW, Till, champion, happened, take_in


def again(record: dict, bundle_file: bytes) -> tuple[bytes, str, str | None, list[str], list[str]]:
    """Score (its eight bytes), outcome, component, rules and reasons; from the two arguments alone."""
    bundle = Bundle.from_bytes(bundle_file, record["bundle"])
    values = [math.nan if value is None else value for value in record["vector"]["values"]]
    with Booster(bundle.model) as booster:
        score = bundle.score(booster.raw(values))
        verdict = Policy(bundle.policy).decide(
            Facts(
                score=score,
                cutoff=bundle.cutoff,
                amount=record["request"]["total"],
                currency=record["request"]["currency"],
                degraded=record["degraded"],
                features=dict(zip(bundle.features, values, strict=True)),
                states=record["vector"]["states"],
            )
        )
        reasons = verdict.reasons
        if verdict.component == "model":
            parts = booster.contributions(values)[:-1]
            catalogue = Catalogue(bundle.reasons, bundle.features)
            chooser = PrincipalReasons(catalogue, bundle.reason_basis, bundle.calibration.slope)
            reasons = chooser.codes(parts, values, record["vector"]["states"])
    return struct.pack("<d", score), verdict.outcome, verdict.component, verdict.rules, reasons


class SometimesUnreadable(MemoryDecisionStore):
    """Every third read misses one item."""

    def __init__(self, features: MemoryFeatureStore, champion_name: str) -> None:
        super().__init__(features, champion_name)
        self.reads = 0

    def read(self, keys, timeout_s, synchronous=()):
        self.reads += 1
        snapshot = super().read(keys, timeout_s, synchronous)
        if self.reads % 3:
            return snapshot
        lost = keys[self.reads % len(keys)]
        return Snapshot({**snapshot.reads, lost: UNAVAILABLE}, snapshot.champion, snapshot.views)


@pytest.fixture(scope="module")
def records() -> list[dict]:
    """Decisions of every kind, on customers with random histories."""
    rng = random.Random(11)
    features = MemoryFeatureStore()
    events = [
        happened(
            f"evt_{number}",
            NOW - rng.randrange(1, 40 * DAY),
            rng.choice(["payment.succeeded"] * 3 + ["payment.failed"]),
            f"cus_{rng.randrange(12)}",
            amount=rng.randrange(1, 10**9),
            days_late=rng.randrange(-3, 30),
        )
        for number in range(150)
    ]
    take_in(features, *events)
    till = Till(SometimesUnreadable(features, champion().sha))
    for number in range(120):
        total = int(10 ** rng.uniform(2, 5.1))
        till.decide(
            f"k{number}", total=total, token=f"cus_{rng.randrange(15)}", replay_at=NOW - rng.randrange(HOUR)
        )
    return [json.loads(stored.record) for stored in till.store.decisions.values()]


def test_score_verdict_and_reasons_come_out_the_same_bits(records):
    file = champion().to_bytes()
    for record in records:
        expected = (record["outcome"], record["component"], record["rules"], record["reasons"])
        assert again(record, file) == (struct.pack("<d", record["score"]), *expected)


def test_the_replayed_decisions_were_of_every_kind(records):
    kinds = {(record["outcome"], record["component"]) for record in records}
    assert kinds == {
        ("approved", None),
        ("declined", "policy"),
        ("declined", "model"),
        ("action_required", "policy"),
    }
    assert {record["degraded"] for record in records} == {True, False}
    states = {state for record in records for state in record["vector"]["states"].values()}
    assert states == {"present", "absent", "unavailable"}
    assert any(value is None for record in records for value in record["vector"]["values"])


def test_a_changed_record_does_not_come_out_the_same(records):
    declined = next(record for record in records if record["component"] == "model")
    place = champion().features.index("request.amount")
    values = declined["vector"]["values"]
    changed = {
        **declined,
        "vector": {**declined["vector"], "values": [*values[:place], 100.0, *values[place + 1 :]]},
    }
    assert again(changed, champion().to_bytes())[0] != struct.pack("<d", declined["score"])
