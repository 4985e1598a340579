"""`python -m local up`: start the synthesized system and serve until Ctrl-C."""

from __future__ import annotations

import argparse
import sys

from local.command import options, run


def up(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from local.system import LocalSystem

    with LocalSystem(arguments.assembly, arguments.state, arguments.port) as system:
        system.serve()
    print("stopped", flush=True)
    return 0


def main(words: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("command", choices=("up",))
    options(parser)
    return run(parser, words, up)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
