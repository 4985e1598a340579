"""Options and progress that commands share: moments as typed, progress bars only of long commands."""

from __future__ import annotations

import click
import pytest

import cli.progress
from candor.clock import DAY, SystemClock
from cli.options import Moment
from cli.progress import Progress


def test_a_moment_is_rfc_3339_or_how_long_ago():
    read = Moment().convert
    assert read("2026-11-24T08:00:00Z", None, None) == 1_795_507_200_000
    ago = SystemClock().now_ms() - read("2d", None, None)
    assert 2 * DAY <= ago < 2 * DAY + 60_000


@pytest.mark.parametrize("text", ["yesterday", "2026-11-24", "2026-11-24T08:00:00", "0d", ""])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(click.BadParameter, match="give a moment"):
        Moment().convert(text, None, None)


@pytest.mark.parametrize(("patience_s", "shown"), [(0.0, True), (3600.0, False)])
def test_progress_is_silent_until_there_is_something_to_wait_for(monkeypatch, capsys, patience_s, shown):
    monkeypatch.setattr(cli.progress, "PATIENCE_S", patience_s)
    with Progress() as progress:
        assert list(progress.each("counting", range(300))) == list(range(300))
    printed = capsys.readouterr()
    assert ("counting" in printed.err, printed.out) == (shown, "")
    assert shown or printed.err == ""
