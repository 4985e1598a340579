"""`python -m local up`: start the synthesized system and serve until Ctrl-C. `python -m local run`: the whole story."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from local.errors import LocalError
from local.system import PORT, LocalSystem


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local")
    parser.add_argument("command", choices=("up", "run"))
    parser.add_argument("--assembly", type=Path, default=Path("cdk.out"))
    parser.add_argument("--state", type=Path, default=Path(".local"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", PORT)))
    return parser.parse_args(words)


def _stop_on_signals() -> None:
    """SIGTERM ends as Ctrl-C does, also in the background, where a shell tells us to ignore Ctrl-C. Once is enough."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def up(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    with LocalSystem(arguments.assembly, arguments.state, arguments.port) as system:
        print(f"READY {system.url}", flush=True)
        threading.Event().wait()


def main(words: list[str]) -> int:
    """The exit code: 0 after Ctrl-C, 1 with one line when the system cannot start."""
    arguments = _arguments(words)
    _stop_on_signals()
    try:
        if arguments.command == "run":
            from local.journey import main as journey

            return journey(arguments)
        up(arguments)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
