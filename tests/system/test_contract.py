"""The running API conforms to its OpenAPI document. All cases: `python -m benchmarks.contract --state .local`."""

import re

from benchmarks.contract.__main__ import run
from tests.system.conftest import Served

CASES = 25


def test_the_api_keeps_its_document(served: Served) -> None:
    done = run(served.running.door, CASES, phases="fuzzing")
    assert done.returncode == 0, done.stdout
    generated, passed = map(int, re.findall(r"(\d+) generated, (\d+) passed", done.stdout)[0])
    assert generated == passed >= 2 * CASES
