"""One line per decision: metrics in CloudWatch's format, without personal data."""

from __future__ import annotations

import json

import pytest

from candor.clock import FixedClock
from candor.edge import telemetry
from candor.errors import BundleRefused
from tests.decide.lending import NOW, RISKY, SAFE, Till

CLOCK = FixedClock(NOW)


def emitted(capsys, line: dict) -> dict:
    telemetry.emit(line)
    printed = capsys.readouterr().out
    assert printed.endswith("}\n")
    assert printed.count("\n") == 1
    return json.loads(printed)


def metrics_of(line: dict) -> dict[str, float]:
    """The metrics as CloudWatch extracts them; fails where the line breaks the embedded format."""
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == NOW
    assert directive["Namespace"] == "Candor"
    for name in directive["Dimensions"][0]:
        assert isinstance(line[name], str)
    return {metric["Name"]: line[metric["Name"]] for metric in directive["Metrics"]}


@pytest.mark.parametrize(("total", "approved"), [(SAFE, 1), (RISKY, 0)])
def test_a_decision_is_counted(capsys, total, approved):
    decision = Till().decide(total=total).decision
    line = emitted(capsys, telemetry.decision_line(decision, "dev", CLOCK, 1.25))
    assert metrics_of(line) == {"Decisions": 1, "Approved": approved, "Degraded": 0, "LatencyMs": 1.25}
    assert (line["service"], line["stage"]) == ("score", "dev")
    assert (line["decision_id"], line["outcome"], line["bundle"]) == (
        decision.id,
        decision.outcome,
        decision.bundle,
    )


def test_a_degraded_decision_is_counted_as_one(capsys):
    till = Till()
    till.store.champion = None
    line = emitted(capsys, telemetry.decision_line(till.decide(total=SAFE).decision, "dev", CLOCK, 1.0))
    assert metrics_of(line)["Degraded"] == 1
    assert line["bundle"] is None


def test_a_decision_line_names_no_person_no_score_and_no_amount(capsys):
    changes = {"token": "canary", "merchant_order_id": "canary", "checkout_id": "canary", "device": None}
    decision = Till().decide("canary", total=81_234, merchant_id="canary", **changes).decision
    telemetry.emit(telemetry.decision_line(decision, "dev", CLOCK, 1.0))
    printed = capsys.readouterr().out
    assert "canary" not in printed
    assert "81234" not in printed
    assert repr(decision.score) not in printed
    assert not any(f'"{code}"' in printed for code in decision.reasons)


@pytest.mark.parametrize(("status", "unwritable"), [(422, 0), (503, 1)])
def test_a_failure_is_counted_by_its_code(capsys, status, unwritable):
    line = emitted(capsys, telemetry.failure_line("some_code", status, "req_1", "prod", CLOCK))
    assert metrics_of(line) == {"Problems": 1, "Unwritable": unwritable}
    assert (line["code"], line["status"], line["request_id"]) == ("some_code", status, "req_1")


def test_a_bundle_that_cannot_serve_is_counted_with_its_cause(capsys):
    error = BundleRefused("the bytes have another SHA-256")
    line = emitted(capsys, telemetry.bundle_line("ab" * 32, error, "prod", CLOCK))
    assert metrics_of(line) == {"BundlesFailed": 1}
    assert line["bundle"] == "ab" * 32
    assert line["cause"] == "BundleRefused: the bytes have another SHA-256"
