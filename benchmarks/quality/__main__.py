"""`python -m benchmarks.quality superlender|hmda|taiwan --data FOLDER`: model quality on public data sets."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.results import keep

SETS = ("superlender", "hmda", "taiwan")


def main() -> int:
    """Measure one data set, print its figures and keep them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("name", choices=SETS)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the set's files")
    options = parser.parse_args()
    module = importlib.import_module(f"benchmarks.quality.{options.name}")
    try:
        figures = module.measure(options.data)
    except FileNotFoundError as error:
        print(f"error: {error.filename} is not there; --data names the folder of the set", file=sys.stderr)
        return 1
    for line in module.lines(figures):
        print(line)
    keep(f"quality-{options.name}", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
