"""`python -m simulation --seeds 200`: run many simulated worlds, or with `--seed 17` one, with all its steps."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from simulation.faults import PLANTS
from simulation.sweep import results_of
from simulation.world import WorldResult, run

PLANTED = "CANDOR_PLANTED_FAULT"

Staleness = dict[str, int | float | None]
STALENESS = {
    "items_healed": "stale items healed",
    "median_seconds": "simulated seconds to heal, median",
    "worst_seconds": "simulated seconds to heal, worst",
}
"""Labels of the staleness figures."""


def main(arguments: Sequence[str]) -> int:
    """Run the seeds; return 0 if no world violated a check."""
    options = _options(arguments)
    planted = os.environ.get(PLANTED) or None
    if planted is not None and planted not in PLANTS:
        print(f"{PLANTED}={planted} is unknown; there are: {', '.join(PLANTS)}", file=sys.stderr)
        return 2
    if options.seed is not None:
        return _tell(run(options.seed, planted), planted, as_json=options.json)
    seeds = range(options.first, options.first + options.seeds)
    return _sweep(seeds, planted, options.jobs, as_json=options.json)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them")
    parser.add_argument("--seed", type=int, help="this world alone, with all its steps")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.jobs < 1:
        parser.error("--seeds and --jobs are at least 1")
    return options


def _tell(result: WorldResult, planted: str | None, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({**_entry(result, planted), "digest": result.digest, "trace": result.trace}))
    else:
        print("\n".join(result.trace))
        print(f"seed {result.seed}: {result.violation or 'equals the oracle'} (trace {result.digest[:16]})")
    return 1 if result.violation else 0


def _sweep(seeds: Sequence[int], planted: str | None, jobs: int, *, as_json: bool) -> int:
    began = time.monotonic()
    results = list(_watched(results_of(seeds, planted, jobs), len(seeds)))
    seconds = time.monotonic() - began
    failed = [result for result in results if result.violation]
    reached = sum((result.reached for result in results), Counter[str]())
    staleness = _staleness(results)
    if as_json:
        report = {
            "seeds": len(seeds),
            "seconds": round(seconds, 1),
            "planted": planted,
            "violations": [_entry(result, planted) for result in failed],
            "reached": dict(reached.most_common()),
            "staleness": staleness,
        }
        print(json.dumps(report, indent=2))
    else:
        _print(len(seeds), seconds, failed, reached, staleness, planted)
    return 1 if failed else 0


def _watched(results: Iterable[WorldResult], total: int) -> Iterator[WorldResult]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(results, total=total, description="worlds")


def _replay(seed: int, planted: str | None) -> str:
    return f"{PLANTED}={planted} make simulate SEED={seed}" if planted else f"make simulate SEED={seed}"


def _entry(result: WorldResult, planted: str | None) -> dict[str, str | int | None]:
    return {
        "seed": result.seed,
        "violation": result.violation,
        "replay": _replay(result.seed, planted),
    }


def _staleness(results: Iterable[WorldResult]) -> Staleness:
    """Return the number of items healed in all worlds and the simulated seconds until they were; None without any."""
    seconds = [second for result in results for second in result.heal_seconds]
    return {
        "items_healed": len(seconds),
        "median_seconds": round(median(seconds), 3) if seconds else None,
        "worst_seconds": round(max(seconds), 3) if seconds else None,
    }


def _print(
    seeds: int,
    seconds: float,
    failed: Sequence[WorldResult],
    reached: Counter[str],
    staleness: Staleness,
    planted: str | None,
) -> None:
    console = Console()
    table = Table("what happened", "times", title=f"{seeds:,} worlds in {seconds:.1f} s")
    for situation, times in reached.most_common():
        table.add_row(situation, f"{times:,}")
    table.add_section()
    for name, label in STALENESS.items():
        value = staleness[name]
        table.add_row(label, "-" if value is None else f"{value:,}")
    console.print(table)
    for result in failed[:1]:
        print("The last steps of the first failure:", *result.trace, sep="\n")
    for result in failed[:10]:
        print(f"seed {result.seed}: {result.violation}\n    {_replay(result.seed, planted)}")
    ended = seeds - len(failed)
    print(f"{ended:,} of {seeds:,} worlds equal the oracle" + (f" with {planted} planted" if planted else ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
