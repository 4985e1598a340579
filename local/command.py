"""Options, interrupts and errors, common to the commands that start a local system."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from local.errors import LocalError
from local.interrupts import stop_on_signals


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a local system: its assembly, its state folder, its port."""
    parser.add_argument(
        "--assembly", type=Path, default=Path("cdk.out"), help="folder of the synthesized app"
    )
    parser.add_argument("--state", type=Path, default=Path(".local"), help="folder of the state")
    parser.add_argument("--port", type=_port, default=os.environ.get("PORT", ""), help="port of the API")


def run(
    parser: argparse.ArgumentParser, words: list[str], command: Callable[[argparse.Namespace], int]
) -> int:
    """Run a command; returns its exit code, 128 + signal if interrupted before it serves, 1 for a LocalError."""
    stop_on_signals()  # before the slow imports, during which Ctrl-C must work as well
    try:
        return command(parser.parse_args(words))
    except KeyboardInterrupt as stop:
        print("stopped before it was ready; the same command continues", flush=True)
        return 128 + int(stop.args[0])
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _port(text: str) -> int:
    from local.system import PORT

    if text and not (text.isascii() and text.isdecimal()):
        raise LocalError(f"PORT={text} is not a port: use a number such as PORT={PORT + 10}")
    return int(text or PORT)
