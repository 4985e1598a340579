"""The contract of feature stores, for every implementation."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from candor.clock import FixedClock
from candor.errors import StoreUnavailable
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.ingest import ingest
from candor.store.dynamodb import DynamoFeatureStore
from candor.store.protocol import MARKERS_PER_COMMIT, Committed, Conflict, Duplicates, marker_key
from simulation.oracle import expected
from tests.builders import NOW, RETENTION, bits, customer, definitions_of, event, shop, stored_values, view_of
from tests.store.conftest import disconnect, point_at, read_one

KEY = "view@1#ann"


def test_a_key_never_written_is_absent(features):
    assert features.store.load([KEY]) == {KEY: ABSENT}


def test_no_keys_are_no_reads(features):
    assert features.store.load([]) == {}


def test_a_first_commit_is_present_under_its_version(features, commit):
    outcome = features.store.commit(commit(blob=bytes(range(256))))
    assert outcome == Committed(Version(outcome.version.birth, 1))
    assert read_one(features.store) == Read("present", bytes(range(256)), outcome.version)


def test_the_next_commit_replaces_exactly_what_it_saw(features, commit):
    first = features.store.commit(commit()).version
    second = features.store.commit(commit(seen=first, blob=b"two")).version
    assert second == Version(first.birth, 2)
    assert read_one(features.store) == Read("present", b"two", second)


def test_who_saw_an_older_version_gets_the_current_item_and_changes_nothing(features, commit):
    first = features.store.commit(commit()).version
    second = features.store.commit(commit(seen=first, blob=b"two")).version
    for seen in (first, None, Version(first.birth, 3), Version(first.birth + 1, 2)):
        assert features.store.commit(commit(seen=seen, blob=b"late")) == Conflict(
            Read("present", b"two", second)
        )
    assert read_one(features.store).blob == b"two"


def test_who_saw_an_item_that_is_gone_is_told_so(features, commit):
    seen = features.store.commit(commit()).version
    features.erase(KEY)
    assert features.store.commit(commit(seen=seen)) == Conflict(ABSENT)
    assert read_one(features.store) == ABSENT


def test_a_version_never_repeats_after_erasure(features, commit):
    before = features.store.commit(commit()).version
    features.erase(KEY)
    after = features.store.commit(commit()).version
    assert after.n == 1
    assert after.birth > before.birth


def test_many_keys_are_read_in_one_call_whatever_their_number(features, commit):
    for number in range(0, 230, 23):
        features.store.commit(commit(f"view@1#{number}", blob=str(number).encode()))
    keys = [f"view@1#{number}" for number in range(230)]
    reads = features.store.load(keys)
    assert list(reads) == keys
    present = {key: read.blob for key, read in reads.items() if read != ABSENT}
    assert present == {f"view@1#{number}": str(number).encode() for number in range(0, 230, 23)}


def test_a_large_item_comes_back_whole(features, commit):
    blob = bytes(range(256)) * 1_200
    features.store.commit(commit(blob=blob))
    assert read_one(features.store).blob == blob


def test_keys_are_text_of_any_script(features, commit):
    key = "view@1#ü\u0000😀 \"'"
    features.store.commit(commit(key))
    assert read_one(features.store, key).state == "present"


def test_markers_are_written_with_the_item(transactional, commit):
    ids = [f"e{n}" for n in range(MARKERS_PER_COMMIT)]
    first = transactional.store.commit(commit(event_ids=ids, marker_expiry=4_000_000_000))
    assert isinstance(first, Committed)
    assert read_one(transactional.store).version == first.version


def test_known_events_are_reported_and_nothing_is_written(transactional, commit):
    first = transactional.store.commit(commit(event_ids=["e1", "e2"], marker_expiry=4_000_000_000))
    again = commit(
        seen=first.version, blob=b"twice", event_ids=["e2", "e3", "e1"], marker_expiry=4_000_000_000
    )
    assert transactional.store.commit(again) == Duplicates(frozenset({"e1", "e2"}))
    assert read_one(transactional.store) == Read("present", commit().blob, first.version)
    fresh = commit(seen=first.version, event_ids=["e3"], marker_expiry=4_000_000_000)
    assert isinstance(transactional.store.commit(fresh), Committed), "the refused commit left a marker"


def test_a_conflict_writes_no_marker(transactional, commit):
    first = transactional.store.commit(commit()).version
    late = commit(blob=b"late", event_ids=["e9"], marker_expiry=4_000_000_000)
    assert transactional.store.commit(late) == Conflict(Read("present", commit().blob, first))
    in_time = commit(seen=first, event_ids=["e9"], marker_expiry=4_000_000_000)
    assert isinstance(transactional.store.commit(in_time), Committed)


def test_a_marker_belongs_to_one_item(transactional, commit):
    for key in (KEY, "view@1#bob"):
        assert isinstance(transactional.store.commit(commit(key, marker_expiry=4_000_000_000)), Committed)


MANY = [f"e{number}" for number in range(2 * MARKERS_PER_COMMIT + 5)]


def _of_job(commit, **changes):
    return commit(**{"event_ids": MANY, "marker_expiry": 4_000_000_000, "claimant": "import/0"} | changes)


def test_a_bulk_job_marks_more_events_than_a_transaction_holds(transactional, commit):
    first = transactional.store.commit(_of_job(commit))
    assert isinstance(first, Committed)
    assert transactional.store.markers(KEY, MANY).keys() == set(MANY)
    again = commit(seen=first.version, event_ids=["new", MANY[-1]], marker_expiry=4_000_000_000)
    assert transactional.store.commit(again) == Duplicates(frozenset({MANY[-1]}))


def test_a_bulk_job_that_repeats_its_commit_changes_nothing(transactional, commit):
    first = transactional.store.commit(_of_job(commit))
    for seen in (None, first.version):
        again = transactional.store.commit(_of_job(commit, seen=seen, blob=b"twice"))
        assert again == Duplicates(frozenset(MANY))
    assert read_one(transactional.store) == Read("present", commit().blob, first.version)


def test_a_bulk_job_leaves_out_what_others_have_marked(transactional, commit):
    first = transactional.store.commit(commit(event_ids=MANY[150:152], marker_expiry=4_000_000_000))
    assert transactional.store.commit(_of_job(commit, seen=first.version)) == Duplicates(
        frozenset(MANY[150:152])
    )
    rest = [event_id for event_id in MANY if event_id not in MANY[150:152]]
    assert isinstance(
        transactional.store.commit(_of_job(commit, seen=first.version, event_ids=rest)), Committed
    )


def test_what_a_bulk_job_has_claimed_is_its_own_until_it_writes(transactional, commit):
    seen = transactional.store.commit(commit()).version
    lost = transactional.store.commit(_of_job(commit, seen=Version(7, 7)))
    assert lost == Conflict(Read("present", commit().blob, seen))
    assert {marker.fingerprint for marker in transactional.store.markers(KEY, MANY).values()} == {0}
    claimed = commit(seen=seen, event_ids=MANY[:1], marker_expiry=4_000_000_000)
    assert transactional.store.commit(claimed) == Duplicates(frozenset(MANY[:1]))
    other = _of_job(commit, seen=seen, claimant="import/1", event_ids=MANY[3:5])
    assert transactional.store.commit(other) == Duplicates(frozenset(MANY[3:5]))
    assert isinstance(transactional.store.commit(_of_job(commit, seen=seen)), Committed)


def test_a_bulk_job_of_a_few_events_needs_no_marker(transactional, commit):
    assert isinstance(transactional.store.commit(_of_job(commit, marker_expiry=None)), Committed)
    assert not transactional.store.markers(KEY, MANY)


def test_what_an_item_holds_is_the_documented_layout(use, commit):
    engine = use("dynoxide")
    layout = commit(event_ids=["e1", "e2"], applied_at=1_234, marker_expiry=4_100_000_000)
    version = engine.features.commit(layout).version
    items = engine.items("features")
    assert items.pop(KEY) == {
        "pk": {"S": KEY},
        "b": {"B": commit().blob},
        "vb": {"N": str(version.birth)},
        "vn": {"N": "1"},
        "u": {"N": "1234"},
        "ids": {"B": b'["e1","e2"]'},
        "ttl": {"N": "4000000000"},
    }
    assert items == {
        f"marker#{KEY}#{name}": {"pk": {"S": marker_key(KEY, name)}, "ttl": {"N": "4100000000"}}
        for name in ("e1", "e2")
    }


@pytest.mark.parametrize("markers", [None, 4_000_000_000])
def test_of_concurrent_writers_one_commits_and_the_others_see_its_item(transactional, commit, markers):
    start = threading.Barrier(6)

    def write(number: int):
        start.wait()
        return transactional.store.commit(
            commit(blob=str(number).encode(), event_ids=[f"e{number}"], marker_expiry=markers)
        )

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(write, range(6)))
    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Committed)]
    assert len(winners) == 1
    stands = Read("present", str(winners[0]).encode(), outcomes[winners[0]].version)
    assert read_one(transactional.store) == stands
    # A transaction can lose to one that is still under way: then nothing stands yet.
    assert all(o in (Conflict(stands), Conflict(ABSENT)) for o in outcomes if not isinstance(o, Committed))


@pytest.mark.parametrize("entity", [customer, shop], ids=["ring", "markers"])
def test_concurrent_updaters_count_every_event_once(transactional, entity):
    view = view_of(["1h", "lifetime"], entity)
    definitions = definitions_of(view)
    events = [event(f"e{n}", NOW - n * 997, entities={entity.name: "x"}, amount=n) for n in range(40)]
    batches = [events[n : n + 10] for n in range(0, 40, 10)] * 2

    def deliver(batch):
        waiting = batch
        for _ in range(20):
            outcome = ingest(waiting, definitions, transactional.store, FixedClock(NOW), RETENTION, writers=2)
            waiting = [event for event in batch if event.id in outcome.failed]
            if not waiting:
                return
        pytest.fail(f"never applied: {outcome.failed}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliver, batches))
    assert bits(stored_values(transactional.store, view, "x")) == bits(expected(view, events, "x", NOW))


@pytest.fixture
def refused(monkeypatch, unused_port):
    """DynamoDB where nothing listens; the client's pauses between attempts are skipped."""
    point_at(f"http://127.0.0.1:{unused_port}", monkeypatch)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)


@pytest.fixture
def nowhere():
    """A store on a table that does not exist."""
    store = DynamoFeatureStore("nowhere")
    yield store
    disconnect(store._item)


@pytest.mark.usefixtures("refused")
def test_a_store_that_does_not_answer_is_unavailable_and_never_absent(nowhere, commit):
    assert nowhere.load([KEY]) == {KEY: UNAVAILABLE}
    for markers in (None, 4_000_000_000):
        with pytest.raises(StoreUnavailable):
            nowhere.commit(commit(marker_expiry=markers))


def test_a_missing_table_is_unavailable(use, nowhere, commit):
    use("moto")
    assert nowhere.load([KEY]) == {KEY: UNAVAILABLE}
    for markers in (None, 4_000_000_000):
        with pytest.raises(StoreUnavailable):
            nowhere.commit(commit(marker_expiry=markers))


def test_an_item_beyond_dynamodbs_limit_is_unavailable_for_the_writer(use, commit):
    engine = use("dynoxide")
    with pytest.raises(StoreUnavailable, match="ValidationException"):
        engine.features.commit(commit(blob=bytes(410_000)))
