"""The demo's population under its own model: nothing that monitoring watches is past its limit."""

from __future__ import annotations

import pytest

from candor.clock import parse_rfc3339
from demo.in_process import InProcessDemo
from demo.sources.simulated import ENDS, SimulatedLender
from history.archive.decisions import read_decisions
from history.archive.events import read_envelopes
from history.archive.objects import Folder
from lender import DEFINITIONS
from training.monitoring.population import snapshot_of
from training.monitoring.reading import MonitoringInput, report
from training.monitoring.signals import signals

OTHER_ENDS = [f"2026-{month:02}-05T08:00:00Z" for month in range(1, 13)]

OF_OUTCOMES = {"CalibrationOff", "BadRateOff"}
"""Signals that rest on the bads among two hundred labels, and on a calibration by as few."""


def monitored(folder, ends):
    """Monitoring report of a whole run whose timeline ends at `ends`."""
    demo = InProcessDemo(SimulatedLender(ends=ends), folder)
    demo.load()
    bundle = demo.retrain("r1", seeds=(1,))
    demo.promote(bundle)
    demo.decide()
    dataset = demo.runs / "r1/dataset"
    files = [(dataset / name).read_bytes() for name in ("dataset.parquet", "manifest.json")]
    archived = MonitoringInput(
        read_decisions(Folder(demo.archive / "decisions")), read_envelopes(demo.archive / "events")
    )
    return report(bundle, DEFINITIONS, snapshot_of("r1", *files, bundle), archived, since=None, until=ends)


@pytest.mark.slow
def test_the_demo_looks_healthy(tmp_path):
    monitoring = monitored(tmp_path, ENDS)
    assert [signal for signal in signals(monitoring) if signal.past_limit] == []
    assert [feature.name for feature in monitoring.features if feature.state == "act"] == []
    assert monitoring.calibration is not None
    assert monitoring.calibration.bads >= 10
    assert sum(vintage.mature for vintage in monitoring.vintages) > 100


@pytest.mark.deep
def test_it_looks_healthy_in_every_season(tmp_path):
    """Nothing drifts at any time of the year; of twelve starts chance may alarm one on the outcomes of its few bads."""
    past = {
        ends: {
            signal.name
            for signal in signals(monitored(tmp_path / ends[:10], parse_rfc3339(ends)))
            if signal.past_limit
        }
        for ends in OTHER_ENDS
    }
    alarmed = {ends: names for ends, names in past.items() if names}
    assert set().union(*alarmed.values()) <= OF_OUTCOMES, alarmed
    assert len(alarmed) <= 1, alarmed
