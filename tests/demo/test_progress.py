"""Progress of the demo: a later start continues with the first one's moment."""

from __future__ import annotations

import json

import pytest

from candor.clock import parse_rfc3339
from demo.progress import RunProgress, kept_start
from demo.run import source_of
from demo.sources.base import SourceError, describe
from demo.sources.simulated import SimulatedLender
from local.errors import LocalError

FIRST = parse_rfc3339("2026-12-01T09:00:00Z")
LATER = parse_rfc3339("2026-12-03T18:30:00Z")


def test_the_first_start_is_kept_before_anything_is_sent(tmp_path):
    folder = tmp_path / "journey"
    assert kept_start(folder) is None
    RunProgress(folder, "simulated (1)", FIRST)
    assert kept_start(folder) == FIRST
    assert RunProgress(folder, "simulated (1)", LATER).published == 0
    assert kept_start(folder) == FIRST


def test_a_state_that_names_no_start_belongs_to_another_population(tmp_path):
    saved = {"population": "simulated (0)", "published": 5, "decided": 0, "asked": "", "run": ""}
    (tmp_path / "progress.json").write_text(json.dumps(saved))
    assert kept_start(tmp_path) is None
    with pytest.raises(LocalError, match="make reset"):
        RunProgress(tmp_path, "simulated (1)", FIRST)


def test_the_simulated_population_ends_at_the_start_and_real_data_do_not():
    first, later = (source_of(None, "30", moment) for moment in (FIRST, LATER))
    assert list(first.history()) == list(SimulatedLender(customers=30, ends=FIRST).history())
    assert max(checkout.q_ms for checkout in first.checkouts()) < FIRST
    assert describe(first) != describe(later)
    with pytest.raises(SourceError, match="not a number of customers"):
        source_of(None, "many", FIRST)
