"""`python -m benchmarks.mutations [--bundles 10000]`: no damaged bundle serves.

Each bundle is damaged in one of ten ways: bits, cuts, repetitions, swapped parts, other digits, lost and changed
members.

- *Under its own name*, as it would come from a damaged bucket: the SHA-256 in the pointer must refuse every one.
- *Renamed* (`--renamed N`), as a broken build would publish it under a name that is right: each is refused with a
  reason, or is a complete model that scores and explains. LightGBM aborts the process on some texts; these are
  counted.

Exits with 1 when one serves under its own name.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from candor.champion import Champion
from candor.errors import CandorError
from candor.model.bundle import Bundle, sha256
from lender import DEFINITIONS, MONOTONE, REASONS, policy
from tests.trained import train

CHUNK = 250
PATIENCE_S = 60


def _flipped(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ (1 << rng.randrange(8))]) + data[position + 1 :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _shorter(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + data[position + rng.randint(1, 64) :]


def _longer(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + rng.randbytes(rng.randint(1, 64)) + data[position:]


def _repeated(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    end = start + rng.randint(1, 512)
    return data[:end] + data[start:]


def _swapped(data: bytes, rng: random.Random) -> bytes:
    first, second, third = sorted(rng.randrange(len(data)) for _ in range(3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def _digit(data: bytes, rng: random.Random) -> bytes:
    """Change a digit of the model: a wrong number in a valid text."""
    positions = [
        position
        for position in rng.sample(range(len(data)), 2_000)
        if data[position : position + 1].isdigit()
    ]
    position = positions[0]
    return data[:position] + b"%d" % rng.randrange(10) + data[position + 1 :]


def _without_member(data: bytes, rng: random.Random) -> bytes:
    members = json.loads(data)
    del members[rng.choice(sorted(members))]
    return _written(members)


def _other_member(data: bytes, rng: random.Random) -> bytes:
    members = json.loads(data)
    strange: list[Any] = [None, [], {}, "", -1, 1e308, "x" * 1_000, [[[]]], True]
    members[rng.choice(sorted(members))] = rng.choice(strange)
    return _written(members)


def _model_line(data: bytes, rng: random.Random) -> bytes:
    """Drop or move a line of the model text."""
    members = json.loads(data)
    lines = members["model"].split("\n")
    position = rng.randrange(len(lines))
    line = lines.pop(position)
    if rng.random() < 0.6:
        lines.insert(rng.randrange(len(lines)), line)
    members["model"] = "\n".join(lines)
    return _written(members)


def _written(members: object) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


DAMAGES: Sequence[Callable[[bytes, random.Random], bytes]] = (
    _flipped, _cut, _shorter, _longer, _repeated, _swapped, _digit, _without_member, _other_member, _model_line,
)  # fmt: skip


def damaged(data: bytes, number: int, seed: int = 1) -> bytes:
    """Damaged copy number `number`, deterministic in the seed and never equal to the bundle."""
    rng = random.Random(f"{seed}/{number}")
    while (result := DAMAGES[number % len(DAMAGES)](data, rng)) == data:
        pass
    return result


def outcome(data: bytes, sha: str) -> str:
    """`refused`, or `served` for a bundle that loads, scores and explains."""
    try:
        champion = Champion(sha, Bundle.from_bytes(data, sha), DEFINITIONS)
        for values in ([0.0] * len(DEFINITIONS.features), [float("nan")] * len(DEFINITIONS.features)):
            champion.score(values)
            champion.reasons(values, {})
    except CandorError:
        return "refused"
    return "served"


def under_its_name(data: bytes, bundles: int, seed: int = 1) -> Counter[str]:
    """Outcomes of damaged bundles under the name of the intact one."""
    name = sha256(data)
    return Counter(outcome(damaged(data, number, seed), name) for number in range(bundles))


def renamed(data: bytes, bundles: int, seed: int = 1) -> tuple[Counter[str], list[int]]:
    """Outcomes of damaged bundles under their own names, and the numbers of those that ended the process."""
    outcomes, ended, number = Counter[str](), list[int](), 0
    context = multiprocessing.get_context("spawn")
    while number < bundles:
        last = min(number + CHUNK, bundles)
        results: Any = context.Array("b", last - number)
        worker = context.Process(target=_classify, args=(data, number, last, seed, results))
        worker.start()
        worker.join(PATIENCE_S)
        if worker.is_alive():
            worker.kill()
            worker.join()
        codes = [code for code in results if code]
        outcomes.update("served" if code == 1 else "refused" for code in codes)
        if len(codes) < last - number:
            ended.append(number + len(codes))
        number += len(codes) + (len(codes) < last - number)
    return outcomes, ended


def _classify(data: bytes, first: int, last: int, seed: int, results: Any) -> None:
    for number in range(first, last):
        data_of_number = damaged(data, number, seed)
        results[number - first] = 1 if outcome(data_of_number, sha256(data_of_number)) == "served" else 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, load and count."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutations", description=__doc__)
    parser.add_argument("--bundles", type=int, default=10_000, help="under their own name")
    parser.add_argument("--renamed", type=int, default=0, help="under names that are right")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    data = train(DEFINITIONS, policy(), REASONS, {"request.amount": 100_000.0}, monotone=MONOTONE).to_bytes()
    named = under_its_name(data, options.bundles, options.seed)
    print(f"under its own name: {dict(named)}")
    if options.renamed:
        others, ended = renamed(data, options.renamed, options.seed)
        print(f"renamed: {dict(others)}, ended the process: {len(ended)} {ended[:20]}")
    return 1 if named["served"] else 0


if __name__ == "__main__":
    sys.exit(main())
