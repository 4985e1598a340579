"""`python -m local up`: start the synthesized system and serve until Ctrl-C. `python -m local run`: the whole story."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from local.errors import LocalError
from local.interrupts import stop_on_signals


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local")
    parser.add_argument("command", choices=("up", "run"))
    parser.add_argument("--assembly", type=Path, default=Path("cdk.out"))
    parser.add_argument("--state", type=Path, default=Path(".local"))
    parser.add_argument("--port", type=_port, default=os.environ.get("PORT", ""))
    return parser.parse_args(words)


def _port(text: str) -> int:
    from local.system import PORT

    if text and not (text.isascii() and text.isdecimal()):
        raise LocalError(f"PORT={text} is no port: use a number such as PORT={PORT + 10}")
    return int(text or PORT)


def up(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    from local.system import LocalSystem

    with LocalSystem(arguments.assembly, arguments.state, arguments.port) as system:
        system.serve()
    print("stopped", flush=True)


def main(words: list[str]) -> int:
    """The exit code: 0 after Ctrl-C while serving, 128 and the signal before that, 1 with one line when it cannot go on."""
    stop_on_signals()  # before the large imports: they take as long as many a start lasts
    try:
        arguments = _arguments(words)
        if arguments.command == "run":
            from local.journey.story import main as journey

            return journey(arguments)
        up(arguments)
    except KeyboardInterrupt as stop:
        print("stopped before it was ready; the same command continues", flush=True)
        return 128 + int(stop.args[0])
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
