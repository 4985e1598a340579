"""Many merchants at once: one decision per key under any concurrency."""

import os
import random
import signal
import threading
from collections import Counter

from benchmarks.load import CheckoutCall, calls_for, check_answers, compare, post_all
from tests.system.conftest import Served
from tests.system.running import left_of

CLIENTS = 32
CHECKOUTS = 400
KILLS = 6


def stored(served: Served) -> dict[str, bytes]:
    return {item["pk"]["S"]: bytes(item["a"]["B"]) for item in served.account.items("decisions")}


def test_one_decision_a_key_and_the_same_bytes_for_all(served: Served) -> None:
    calls = calls_for(CHECKOUTS)
    assert len(calls) > CHECKOUTS * 1.3
    before = stored(served)
    answers = post_all(served.running.door, calls, CLIENTS)
    verdict = check_answers(answers)
    assert verdict.broken == []
    assert Counter(answer.status for answer in answers) == {200: len(calls)}
    assert (verdict.keys, verdict.decided) == (CHECKOUTS, CHECKOUTS)
    assert list(compare(verdict, before, stored(served))) == []


def test_all_at_the_same_moment(served: Served) -> None:
    for turn in range(5):
        (call,) = {call.key: call for call in calls_for(1, turn)}.values()
        answers = post_all(served.running.door, [call] * CLIENTS, CLIENTS)
        verdict = check_answers(answers)
        assert verdict.broken == []
        assert (verdict.decided, verdict.replayed) == (1, CLIENTS - 1)


def test_two_bodies_race_for_one_key_and_one_of_them_has_it(served: Served) -> None:
    first, second = ({call.key: call for call in calls_for(2)}).values()
    rivals = [first, CheckoutCall(first.key, second.body)] * (CLIENTS // 2)
    answers = post_all(served.running.door, rivals, CLIENTS)
    statuses = [answer.status for answer in answers]
    winners = {index % 2 for index, status in enumerate(statuses) if status == 200}
    assert len(winners) == 1
    assert Counter(statuses) == {200: CLIENTS // 2, 422: CLIENTS // 2}
    assert len({answer.body for answer in answers if answer.status == 200}) == 1
    assert sum(answer.status == 200 and not answer.replayed for answer in answers) == 1


def test_scorers_killed_in_mid_load(served: Served) -> None:
    """Clients retry when the gateway's status allows it; nothing is decided twice or lost."""
    calls, before = calls_for(CHECKOUTS // 2, seed=2), stored(served)
    done, killed = threading.Event(), set[int]()

    def kill() -> None:
        rng = random.Random(3)
        while len(killed) < KILLS and not done.wait(rng.uniform(0.05, 0.4)):
            for pid in served.running.workers("score")[:2]:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        answers = post_all(served.running.door, calls, CLIENTS, patient=True)
    finally:
        done.set()
        killer.join()
    verdict = check_answers(answers)
    assert verdict.broken == []
    assert {status for answer in answers for status in answer.refused} <= {500, 503}
    assert list(compare(verdict, before, stored(served))) == []
    assert killed
    assert left_of(sorted(killed)) == []
