"""docs/how-to/change-a-rule.md: its commands, in their order, release a rule and take it back."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from candor.model.policy_document import PolicyDocument
from candor.registry.registry import Registry
from tests.cli.deployed import called
from tests.cli.policy.conftest import decided

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "change-a-rule.md"
BLOCKS = re.compile(r"^<!-- run -->\n```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(language: str, text: str) -> None:
    if language == "python":
        exec(compile(text, str(PAGE), "exec"), {})
        return
    for line in text.splitlines():
        program, *words = shlex.split(line)
        assert program == "candor"
        result = called(*words)
        assert result.exit_code == 0, f"{line}: {result.stderr}"


def test_the_page_releases_a_rule_and_takes_it_back(deployed, champion, tmp_path, monkeypatch):
    stage = deployed()
    monkeypatch.chdir(tmp_path)
    outcomes, registry = [], Registry("registry")
    for number, (language, text) in enumerate(BLOCKS.findall(PAGE.read_text("utf-8"))):
        run(language, text)
        outcomes.append(decided(stage, f"after-{number}", 3_000).outcome)
    assert outcomes == ["approved"] * 3 + ["declined", "approved"]
    [release] = registry.releases()
    assert release.state == "retired"
    table = json.loads((tmp_path / "rule/policy.json").read_text("utf-8"))
    assert release.digest == PolicyDocument.of(table, champion.reasons).digest
    assert registry.pointer().bundle == champion.sha
