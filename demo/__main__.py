"""`python -m demo`: start the synthesized system, load history, train, decide checkouts, report, serve until Ctrl-C."""

from __future__ import annotations

import argparse
import sys

from local.command import options, run
from local.errors import LocalError


def _demo(arguments: argparse.Namespace) -> int:
    from candor.errors import CandorError

    try:
        from demo.run import main as demo  # its imports are slow, and `--help` does not need them

        return demo(arguments)
    except CandorError as error:  # also of the lender's declarations, which are checked at their import
        raise LocalError(str(error)) from error


def main(words: list[str]) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    options(parser)
    return run(parser, words, _demo)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
