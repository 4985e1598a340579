"""A scorer's sandbox around a snapshot: loaded before, renewed after; with a stand-in for Lambda's own module."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import snapshot_restore_py

from candor.clock import MINUTE, format_rfc3339
from candor.model.bundle import Bundle
from lender import DEFINITIONS, MONOTONE, REASONS, policy
from tests.handlers.scoring import Scorer, point_at, standing, store_bundle
from tests.store.scripted import Answer, ScriptedServer, serving
from tests.trained import train


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    bundle: Bundle = train(DEFINITIONS, policy(), REASONS, {"request.amount": 100_000.0}, monotone=MONOTONE)
    with standing(bundle) as (_, given):
        yield given


@pytest.fixture
def scorer(environment) -> Iterator[Scorer]:
    scorer = Scorer(environment)
    yield scorer
    scorer.close()


def called(hooks: list[Any]) -> None:
    """As the runtime calls what was registered last."""
    function, args, named = hooks[-1]
    function(*args, **named)


def snapshot() -> None:
    called(snapshot_restore_py.get_before_snapshot())


def restore() -> None:
    called(snapshot_restore_py.get_after_restore())


def test_a_snapshot_holds_the_champion_and_no_connection(scorer):
    snapshot()
    decider = scorer.module.SCORER.decider()
    assert decider._champions.last.champion is not None
    assert decider._store._client._connection is None
    restore()
    assert scorer(key="restored")["statusCode"] == 200
    assert scorer.module.SCORER.decider() is decider, "nothing is built twice"


def test_a_restored_sandbox_has_the_champion_of_now(scorer):
    snapshot()
    champions = scorer.module.SCORER.decider()._champions
    newer = train(DEFINITIONS, policy(), REASONS, {"request.amount": 90_000.0}, monotone=MONOTONE)
    before = champions.last.champion.sha
    store_bundle(newer.sha, newer.to_bytes())
    point_at(newer.sha)
    restore()
    assert champions.last.champion.sha == newer.sha != before


def test_a_restored_sandbox_signs_with_what_it_finds_now_by_its_own_clock(scorer, monkeypatch):
    snapshot()
    client = scorer.module.SCORER.decider()._store._client
    client._ahead_s = 7_200
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    restore()
    assert scorer(key="renewed")["statusCode"] == 200
    assert (client._credentials.access_key, client._ahead_s) == ("another", 0)


def test_two_sandboxes_of_one_snapshot_draw_other_numbers(scorer):
    drawn = set()
    for _ in range(4):
        random.seed(7)
        restore()
        drawn.add(random.random())
    assert len(drawn) == 4


def test_a_snapshot_is_made_even_where_nothing_can_be_reached(environment, monkeypatch, capsys):
    scorer = Scorer(environment)
    with monkeypatch.context() as offline:
        offline.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        snapshot()
    assert json.loads(capsys.readouterr().out)["cause"].startswith("StoreUnavailable")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1")
    restore()
    assert json.loads(capsys.readouterr().out)["cause"].startswith("StoreUnavailable")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    assert scorer(key="built late")["statusCode"] == 200
    scorer.close()


def test_credentials_that_expire_are_renewed_in_time(scorer, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    now = scorer.module.CLOCK.now_ms()
    leases = [
        {"AccessKeyId": name, "SecretAccessKey": "s", "Token": "t", "Expiration": format_rfc3339(now + lasts)}
        for name, lasts in (("short", MINUTE), ("long", 60 * MINUTE))
    ]
    with serving(ScriptedServer()) as container:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.url)
        container.script = [Answer(200, json.dumps(each).encode()) for each in leases]
        for key in ("first", "second", "third"):
            assert scorer(key=key)["statusCode"] == 200
        assert len(container.requests) == 2
    assert scorer.module.SCORER.decider()._store._client._credentials.access_key == "long"
