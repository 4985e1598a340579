"""Duplicates and crashes between the two calls, on the local system's engine; in full `python -m benchmarks.crashes`."""

import pytest

from benchmarks.crashes import KeyAnswer, check_answers, run
from local.aws import dynoxide


def test_every_key_has_one_decision_and_its_replays_are_the_same_bytes(tmp_path):
    if not dynoxide.supported() or not dynoxide._BINARY.exists():
        pytest.skip("dynoxide is not installed here: `make run` installs it where it is published")
    outcome = run(400, 8, 0.1, tmp_path)
    assert outcome.broken == []
    assert outcome.replays > 0
    assert set(outcome.deaths) == {"between the calls", "after the write"}


STORED_BODY = b'{"id":"dec_1"}'
STORED = {"dec_1": {"a": {"B": STORED_BODY}}}


@pytest.mark.parametrize(
    ("answers", "stored"),
    [
        ([KeyAnswer("k", STORED_BODY, False), KeyAnswer("k", b'{"id":"dec_2"}', True)], STORED),
        ([KeyAnswer("k", STORED_BODY, False), KeyAnswer("k", STORED_BODY, False)], STORED),
        ([KeyAnswer("k", STORED_BODY, False)], {}),
        ([KeyAnswer("k", STORED_BODY, False)], {"dec_1": {"a": {"B": b"{}"}}}),
        ([KeyAnswer("k", STORED_BODY, False)], {**STORED, "dec_2": {"a": {"B": b"{}"}}}),
    ],
    ids=["other bytes", "decided twice", "not stored", "stored otherwise", "a decision too many"],
)
def test_a_broken_promise_is_told(answers, stored):
    assert (
        check_answers([KeyAnswer("k", STORED_BODY, False), KeyAnswer("k", STORED_BODY, True)], STORED).broken
        == []
    )
    assert check_answers(answers, stored).broken
