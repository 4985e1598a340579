"""The reference page has the help of every command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.__main__ import candor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"


def _names() -> Iterator[tuple[str, click.Command]]:
    for name, command in candor.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {each}", subcommand) for each, subcommand in command.commands.items())
        else:
            yield name, command


BY_NAME = dict(_names())
COMMANDS = sorted(BY_NAME)


def help_of(*words: str) -> str:
    """The help of one command as a terminal of 100 columns shows it."""
    result = CliRunner().invoke(candor, [*words, "--help"], prog_name="candor", terminal_width=100)
    assert result.exit_code == 0
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def documented() -> dict[str, str]:
    """First block of text under the heading of each command of the page."""
    blocks = re.findall(
        r"^## candor (\S+(?: \S+)?)\n.*?```text\n(.*?)\n```",
        PAGE.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return dict(blocks)


def test_every_command_has_its_place():
    assert sorted(documented()) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_the_commands_own_words(name):
    assert documented()[name] == help_of(*name.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_works_on_a_stage_and_here(name):
    options = {option for each in BY_NAME[name].params for option in each.opts}
    assert {"--stage", "--local", "--state", "--json"} <= options
