"""The contract of a decision store: one read that never raises, one record per id."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from candor.errors import StoreUnavailable
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.store.dynamodb import DynamoDecisionStore
from candor.store.protocol import Contended, Duplicates, Snapshot, marker_key
from candor.store.scorer import ScorerStore
from tests.store.conftest import CREDENTIALS, REGION, disconnect_decisions, point_at, read_one

KEY, OTHER = "view@1#ann", "view@2#ann"
EXPIRY = 4_000_000_000
TIMEOUT_S = 5.0


def test_one_read_gives_items_and_the_champion(decisions, commit):
    version = decisions.features.commit(commit()).version
    decisions.promote("ab" * 32)
    assert decisions.store.read([KEY, "view@1#bob"], TIMEOUT_S) == Snapshot(
        {KEY: Read("present", commit().blob, version), "view@1#bob": ABSENT}, "ab" * 32, {}
    )


def test_without_a_promotion_there_is_no_champion(decisions):
    assert decisions.store.read([KEY], TIMEOUT_S) == Snapshot({KEY: ABSENT}, None)


def test_the_pointer_tells_which_version_of_a_view_serves(decisions):
    decisions.promote("cd" * 32, {"loans": "0a1b2c3d"})
    assert decisions.store.read([], TIMEOUT_S) == Snapshot({}, "cd" * 32, {"loans": "0a1b2c3d"})


def test_views_may_be_flipped_before_anything_is_promoted(decisions):
    decisions.promote(None, {"loans": "0a1b2c3d"})
    assert decisions.store.read([], TIMEOUT_S) == Snapshot({}, None, {"loans": "0a1b2c3d"})


def test_without_keys_the_champion_is_still_read(decisions):
    decisions.promote("cd" * 32)
    assert decisions.store.read([], TIMEOUT_S) == Snapshot({}, "cd" * 32, {})


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


def test_the_record_is_stored_in_the_documented_layout(use, scorer_store, decision):
    engine = use("dynoxide")
    scorer_store().record(decision(), TIMEOUT_S)
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


# With synchronous items


def test_synchronous_items_are_read_from_their_own_table(decisions, commit):
    decisions.features.commit(commit())
    version = decisions.synchronous.commit(commit(OTHER, blob=b"own")).version
    reads = decisions.store.read([OTHER], TIMEOUT_S, [OTHER.replace("2", "3")]).reads
    assert reads == {OTHER: ABSENT, OTHER.replace("2", "3"): ABSENT}
    assert decisions.store.read([KEY], TIMEOUT_S, [OTHER]).reads[OTHER] == Read("present", b"own", version)


def test_record_and_items_are_written_together(decisions, decision, commit):
    seen = decisions.synchronous.commit(commit()).version
    commits = [commit(seen=seen, blob=b"next"), commit(OTHER, blob=b"first")]
    assert decisions.store.record(decision(), TIMEOUT_S, commits) is None
    assert read_one(decisions.synchronous) == Read("present", b"next", Version(seen.birth, 2))
    first = read_one(decisions.synchronous, OTHER)
    assert (first.blob, first.version.n) == (b"first", 1)
    assert decisions.features.load([KEY, OTHER]) == {KEY: ABSENT, OTHER: ABSENT}
    assert decisions.store.record(decision(record=b"other"), TIMEOUT_S) == decision()


def test_a_stored_decision_is_answered_whatever_became_of_the_items(decisions, decision, commit):
    assert decisions.store.record(decision(), TIMEOUT_S, [commit()]) is None
    stands = read_one(decisions.synchronous)
    for seen in (None, stands.version, Version(1, 1)):
        again = [commit(seen=seen, blob=b"again")]
        assert decisions.store.record(decision(record=b"other"), TIMEOUT_S, again) == decision()
    assert read_one(decisions.synchronous) == stands


def test_a_transaction_whose_answer_was_lost_meets_itself(decisions, decision, commit):
    for _ in range(2):
        assert decisions.store.record(decision(), TIMEOUT_S, [commit(), commit(OTHER)]) is None
    assert read_one(decisions.synchronous).version.n == 1, "written once"


def test_an_item_changed_by_someone_else_leaves_everything_as_it_was(decisions, decision, commit):
    theirs = decisions.synchronous.commit(commit(blob=b"theirs")).version
    for seen in (None, Version(theirs.birth, 2), Version(theirs.birth + 1, 1)):
        commits = [commit(OTHER), commit(seen=seen, blob=b"mine")]
        result = decisions.store.record(decision(), TIMEOUT_S, commits)
        assert isinstance(result, Contended)
        assert result.current[KEY] == Read("present", b"theirs", theirs)
        assert result.current.get(OTHER, ABSENT) == ABSENT
    assert decisions.synchronous.load([KEY, OTHER]) == {
        KEY: Read("present", b"theirs", theirs),
        OTHER: ABSENT,
    }
    assert decisions.store.record(decision(), TIMEOUT_S, [commit(seen=theirs)]) is None, "there was no record"


def test_an_item_that_is_gone_is_told_as_absent(decisions, decision, commit):
    result = decisions.store.record(decision(), TIMEOUT_S, [commit(seen=Version(5, 1))])
    assert result == Contended({KEY: ABSENT})


def test_markers_are_written_with_record_and_item(contended, decision, commit):
    marked = commit(event_ids=["dec_1"], marker_expiry=EXPIRY)
    assert contended.store.record(decision(), TIMEOUT_S, [marked]) is None
    seen = read_one(contended.synchronous).version
    copy = commit(seen=seen, blob=b"copy", event_ids=["dec_1"], marker_expiry=EXPIRY)
    assert contended.synchronous.commit(copy) == Duplicates(frozenset({"dec_1"}))


def test_a_marker_in_the_way_writes_nothing_and_tells_nothing_of_the_item(contended, decision, commit):
    marked = commit(event_ids=["dec_1"], marker_expiry=EXPIRY)
    seen = contended.synchronous.commit(marked).version
    again = commit(seen=seen, blob=b"again", event_ids=["dec_1"], marker_expiry=EXPIRY)
    result = contended.store.record(decision(), TIMEOUT_S, [again])
    assert isinstance(result, Contended)
    assert result.current.get(KEY, read_one(contended.synchronous)).blob == commit().blob
    assert contended.store.record(decision(), TIMEOUT_S) is None, "there was no record"


def test_of_concurrent_decisions_on_one_item_each_version_has_one_writer(contended, decision, commit):
    """Six scorers that never give up: six records, six versions."""
    start = threading.Barrier(6)
    stores = [contended.another() for _ in range(6)]

    def record(number: int) -> int:
        start.wait()
        attempts = 0
        outcome: object = Contended({})
        while isinstance(outcome, Contended):
            attempts += 1
            seen = contended.synchronous.load([KEY])[KEY].version
            outcome = stores[number].record(decision(id=f"dec_{number}"), TIMEOUT_S, [commit(seen=seen)])
        assert outcome is None
        return attempts

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(record, range(6)))
    assert read_one(contended.synchronous).version.n == 6


def test_a_synchronous_item_has_the_documented_layout(use, scorer_store, decision, commit):
    engine = use("dynoxide")
    own_commit = commit(event_ids=["dec_1"], applied_at=1_234, marker_expiry=4_100_000_000)
    scorer_store().record(decision(), TIMEOUT_S, [own_commit])
    version = read_one(engine.synchronous).version
    assert engine.items("synchronous") == {
        KEY: {
            "pk": {"S": KEY},
            "b": {"B": own_commit.blob},
            "vb": {"N": str(version.birth)},
            "vn": {"N": "1"},
            "u": {"N": "1234"},
            "ids": {"B": b'["dec_1"]'},
            "ttl": {"N": "4000000000"},
        },
        marker_key(KEY, "dec_1"): {"pk": {"S": marker_key(KEY, "dec_1")}, "ttl": {"N": "4100000000"}},
    }


@pytest.mark.parametrize("client", ["scorer", "pynamodb"])
def test_a_missing_table_is_unavailable(use, decision, commit, client, broken):
    use("moto")
    store = broken(client)
    assert store.read([KEY], TIMEOUT_S) == Snapshot({KEY: UNAVAILABLE}, None)
    for commits in ([], [commit()]):
        with pytest.raises(StoreUnavailable):
            store.record(decision(), TIMEOUT_S, commits)


@pytest.mark.parametrize("client", ["scorer", "pynamodb"])
def test_a_store_that_does_not_answer_is_unavailable(
    monkeypatch, unused_port, decision, commit, client, broken
):
    point_at(f"http://127.0.0.1:{unused_port}", monkeypatch)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    store = broken(client)
    assert store.read([KEY], TIMEOUT_S) == Snapshot({KEY: UNAVAILABLE}, None)
    for commits in ([], [commit()]):
        with pytest.raises(StoreUnavailable):
            store.record(decision(), TIMEOUT_S, commits)


@pytest.fixture
def broken():
    """Stores on tables that do not exist, or on an address where nothing listens."""
    closing = []

    def build(client: str):
        if client == "scorer":
            scorer_store = ScorerStore(
                region=REGION,
                features="no",
                synchronous="neither",
                decisions="no",
                registry="no",
                credentials=CREDENTIALS,
            )
            closing.append(scorer_store._client.close)
            return scorer_store
        store = DynamoDecisionStore("no", "no", lambda: (None, None))
        closing.append(lambda: disconnect_decisions(store))
        return store

    yield build
    for close in closing:
        close()
