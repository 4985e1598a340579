"""A bundle that is damaged in any way is refused under its own name. Ten thousand: `python -m benchmarks.mutations`."""

import pytest

from benchmarks.mutations import DAMAGES, damaged, outcome, under_its_name
from candor.model.bundle import sha256
from lender import DEFINITIONS, MONOTONE, REASONS, policy
from tests.trained import train


@pytest.fixture(scope="module")
def data() -> bytes:
    return train(DEFINITIONS, policy(), REASONS, {"request.amount": 100_000.0}, monotone=MONOTONE).to_bytes()


def test_no_damaged_bundle_serves(data):
    assert under_its_name(data, 400) == {"refused": 400}


def test_the_whole_one_does_and_damages_are_the_same_on_every_run(data):
    assert outcome(data, sha256(data)) == "served"
    for number in range(3 * len(DAMAGES)):
        assert damaged(data, number) == damaged(data, number) != data
