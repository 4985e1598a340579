"""The contract of a decision store: one read that never raises, one record per id."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from candor.errors import StoreUnavailable
from candor.features.vector import ABSENT, UNAVAILABLE, Read
from candor.store.dynamodb import DynamoDecisionStore
from candor.store.hot import HotStore
from candor.store.protocol import Snapshot
from tests.store.conftest import CREDENTIALS, REGION, disconnect, point_at

KEY = "view@1#ann"
TIMEOUT_S = 5.0


def test_one_read_gives_items_and_the_champion(decisions, commit):
    version = decisions.features.commit(commit()).version
    decisions.promote("ab" * 32)
    assert decisions.store.read([KEY, "view@1#bob"], TIMEOUT_S) == Snapshot(
        {KEY: Read("present", commit().blob, version), "view@1#bob": ABSENT}, "ab" * 32
    )


def test_without_a_promotion_there_is_no_champion(decisions):
    assert decisions.store.read([KEY], TIMEOUT_S) == Snapshot({KEY: ABSENT}, None)


def test_without_keys_the_champion_is_still_read(decisions):
    decisions.promote("cd" * 32)
    assert decisions.store.read([], TIMEOUT_S) == Snapshot({}, "cd" * 32)


def test_who_records_first_wins_and_the_second_gets_what_is_stored(decisions, decision):
    first = decision(record=b"\x00\xff", answer=b'{"a":"\xc3\xbc"}')
    assert decisions.store.record(first, TIMEOUT_S) is None
    assert decisions.store.record(decision(record=b"other", fingerprint="e" * 64), TIMEOUT_S) == first
    assert decisions.another().record(decision(record=b"other"), TIMEOUT_S) == first


def test_a_record_that_expires_while_it_is_in_the_way_is_not_taken_for_written(use, decision, monkeypatch):
    store = use("moto").decisions
    store.record(decision(), TIMEOUT_S)
    monkeypatch.setattr(store, "get", lambda decision_id: None)
    with pytest.raises(StoreUnavailable, match="expired"):
        store.record(decision(record=b"other"), TIMEOUT_S)


def test_other_ids_do_not_meet(decisions, decision):
    assert decisions.store.record(decision(), TIMEOUT_S) is None
    assert decisions.store.record(decision(id="dec_2"), TIMEOUT_S) is None


def test_a_record_whose_answer_was_lost_meets_itself(decisions, decision):
    assert decisions.store.record(decision(), TIMEOUT_S) is None
    assert decisions.store.record(decision(), TIMEOUT_S) is None, "the same record is no other decision"


def test_concurrent_recorders_have_one_winner(contended, decision):
    start = threading.Barrier(6)
    stores = [contended.another() for _ in range(6)]

    def record(number: int):
        start.wait()
        return stores[number].record(decision(record=str(number).encode()), TIMEOUT_S)

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(record, range(6)))
    winners = [number for number, stored in enumerate(outcomes) if stored is None]
    assert len(winners) == 1
    stored = decision(record=str(winners[0]).encode())
    assert [outcome for outcome in outcomes if outcome is not None] == [stored] * 5


def test_the_record_is_stored_in_the_documented_layout(use, lean, decision):
    engine = use("dynoxide")
    lean().record(decision(), TIMEOUT_S)
    assert engine.items("decisions") == {
        "dec_1": {
            "pk": {"S": "dec_1"},
            "m": {"S": "mer_1"},
            "f": {"S": "f" * 64},
            "r": {"B": decision().record},
            "a": {"B": decision().answer},
            "q": {"N": "1800000000000"},
            "ttl": {"N": "4000000000"},
        }
    }
    assert engine.decisions.get("dec_1") == decision()
    assert engine.decisions.get("dec_2") is None
    assert engine.decisions.get_many(["dec_1", "dec_2"]) == {"dec_1": decision()}


@pytest.mark.parametrize("client", ["lean", "pynamodb"])
def test_a_missing_table_is_unavailable(use, decision, client, broken):
    use("moto")
    store = broken(client)
    assert store.read([KEY], TIMEOUT_S) == Snapshot({KEY: UNAVAILABLE}, None)
    with pytest.raises(StoreUnavailable):
        store.record(decision(), TIMEOUT_S)


@pytest.mark.parametrize("client", ["lean", "pynamodb"])
def test_a_store_that_does_not_answer_is_unavailable(monkeypatch, unused_port, decision, client, broken):
    point_at(f"http://127.0.0.1:{unused_port}", monkeypatch)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    store = broken(client)
    assert store.read([KEY], TIMEOUT_S) == Snapshot({KEY: UNAVAILABLE}, None)
    with pytest.raises(StoreUnavailable):
        store.record(decision(), TIMEOUT_S)


@pytest.fixture
def broken():
    """Stores on tables that do not exist, or on an address where nothing listens."""
    closing = []

    def build(client: str):
        if client == "lean":
            lean = HotStore(
                region=REGION, features="no", decisions="no", registry="no", credentials=CREDENTIALS
            )
            closing.append(lean._client.close)
            return lean
        store = DynamoDecisionStore("no", "no", lambda: None)
        closing.append(lambda: disconnect(store._item, store._features._item))
        return store

    yield build
    for close in closing:
        close()
