"""Queue messages: redelivered and refused ones."""

import json

from candor.clock import FixedClock
from candor.contracts import HISTORY
from candor.edge.messages import Message, ingest_messages
from candor.errors import StoreUnavailable
from candor.features.state import ViewState
from candor.store.memory import MemoryFeatureStore
from simulation.oracle import expected
from tests.builders import NOW, RETENTION, bits, definitions_of, event, only_key, view_of

VIEW = view_of(["lifetime"])
DEFINITIONS = definitions_of(VIEW)


def message(number, event_id="e1", source="candor.lender", **changed) -> Message:
    detail = {
        "event_id": event_id, "type": "payment.succeeded", "occurred_at": "2026-11-23T16:41:07.120Z",
        "entities": {"customer": "ann"}, "data": {"amount": 1}, **changed,
    }  # fmt: skip
    envelope = {"version": "0", "source": source, "detail-type": detail["type"], "detail": detail}
    return Message(f"m{number}", json.dumps(envelope).encode())


def run(messages, store=None):
    return ingest_messages(messages, DEFINITIONS, store or MemoryFeatureStore(), FixedClock(NOW), RETENTION)


def ids(pairs):
    return [refused_message.id for refused_message, _ in pairs]


def test_messages_that_are_applied_are_not_mentioned():
    store = MemoryFeatureStore()
    assert run([message(1, "e1"), message(2, "e2"), message(3, "e1")], store) == (
        [],
        [],
        0,
        0,
        frozenset(),
        [],
    )
    state = ViewState.decode(VIEW, store.items[only_key(VIEW, "ann")].blob)
    twice = [event(name, 1_795_452_067_120, amount=1) for name in ("e1", "e2", "e1")]
    assert bits(state.values(NOW)) == bits(expected(VIEW, twice, "ann", NOW))


def test_messages_that_can_never_be_applied_are_refused_with_their_reason():
    outcome = run(
        [
            Message("not json", b"{"),
            Message("no detail", b"{}"),
            message("shape", schema_version=2),
            message("type", "e2", type="payment.imagined"),
            message("good", "e3"),
            message("float", "e4", data={"amount": 1.5}),
        ]
    )
    assert {refused_message.id: reason.code for refused_message, reason in outcome.refused} == {
        "not json": "malformed_json",
        "no detail": "missing_field",
        "mshape": "unknown_schema_version",
        "mtype": "unknown_event_type",
        "mfloat": "invalid_field",
    }
    assert outcome.failed == []


def test_messages_of_a_failed_event_come_again_all_of_them():
    store = MemoryFeatureStore()
    committing = store.commit

    def only_bobs(commit):
        if commit.key != only_key(VIEW, "bob"):
            raise StoreUnavailable("no answer")
        return committing(commit)

    store.commit = only_bobs
    bob = message(2, "e2", entities={"customer": "bob"})
    outcome = run([message(1, "e1"), bob, message(3, "e1")], store)
    assert ids(outcome.failed) == ["m1", "m3"]
    assert {cause for _, cause in outcome.failed} == {"no answer"}
    assert outcome.refused == []
    assert set(store.items) == {only_key(VIEW, "bob")}


def test_an_empty_batch_is_no_work():
    assert run([]) == ([], [], 0, 0, frozenset(), [])


def test_a_bad_copy_of_an_id_is_refused_and_the_good_one_is_applied():
    store = MemoryFeatureStore()
    outcome = run([message("good", "e1"), message("bad", "e1", data={"amount": 1.5})], store)
    assert [refused_message.id for refused_message, _ in outcome.refused] == ["mbad"]
    assert outcome.failed == []
    assert len(store.items) == 1


def test_online_features_know_loaded_history_from_its_own_moment():
    store, known_at = MemoryFeatureStore(), "2027-01-14T00:00:00Z"
    outcome = run([message(1, "e1", HISTORY, known_at=known_at), message(2, "e2", known_at=known_at)], store)
    assert [(refused_message.id, why.field) for refused_message, why in outcome.refused] == [
        ("m2", "known_at")
    ]
    state = ViewState.decode(VIEW, store.items[only_key(VIEW, "ann")].blob)
    soon_after = 1_795_452_067_121
    assert state.values(soon_after)[0] == 1.0
