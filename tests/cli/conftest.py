"""A busy machine prints no progress into the output that tests compare."""

from __future__ import annotations

import pytest

import cli.progress


@pytest.fixture(autouse=True)
def _no_progress(monkeypatch):
    monkeypatch.setattr(cli.progress, "PATIENCE_S", 3600.0)
