"""The reference page says of every command what the command says of itself."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.__main__ import candor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"


def commands() -> dict[str, click.Command]:
    """Every command by its words: `features show`, or one word for those of no group."""
    found: dict[str, click.Command] = {}
    for name, command in candor.commands.items():
        if isinstance(command, click.Group):
            found |= {f"{name} {each}": one for each, one in command.commands.items()}
        else:
            found[name] = command
    return found


COMMANDS = sorted(commands())


def told(*words: str) -> str:
    """The help of one command as a terminal of 100 columns shows it."""
    result = CliRunner().invoke(candor, [*words, "--help"], prog_name="candor", terminal_width=100)
    assert result.exit_code == 0
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def documented() -> dict[str, str]:
    """What the page has under the heading of each command: its first block of text."""
    found = re.findall(
        r"^## candor (\S+(?: \S+)?)\n.*?```text\n(.*?)\n```",
        PAGE.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return dict(found)


def test_every_command_has_its_place():
    assert sorted(documented()) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_the_commands_own_words(name):
    assert documented()[name] == told(*name.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_works_on_a_stage_and_here(name):
    options = {option for each in commands()[name].params for option in each.opts}
    assert {"--stage", "--local", "--state", "--json"} <= options
