"""Every alarm has its line in the runbooks."""

import re

from tests.infra.conftest import ROOT


def test_the_runbooks_have_a_line_for_every_alarm_and_for_no_other(assembly):
    page = (ROOT / "docs" / "runbooks" / "README.md").read_text("utf-8")
    alarms = {key.partition("/")[2][:-8] for key in assembly.resources("AWS::CloudWatch::Alarm")}
    assert _alarms_of(page) == alarms


def _alarms_of(page: str) -> set[str]:
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
