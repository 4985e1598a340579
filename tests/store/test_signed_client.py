"""The signed client under faults of network and DynamoDB: always a result in time, never a wrong one."""

from base64 import b64encode

import pytest

from candor.errors import StoreUnavailable
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.store.protocol import Contended, Snapshot
from candor.store.scorer import BundleSource, read_secret
from candor.store.signed.client import AwsRequest, Credentials, SignedClient
from tests.store.conftest import CREDENTIALS, REGION, point_at
from tests.store.scripted import BLOCK, DROP, HANG, Answer, ScriptedServer, answer, error, serving

KEYS = ["view@1#ann", "view@1#bob"]
SYNCHRONOUS = ["burst@1#ann", "burst@1#bob"]
AMPLE_S = 5.0
SHORT_S = 0.15
PRESENT = Read("present", b"blob", Version(7, 3))
LOST = Snapshot(dict.fromkeys(KEYS, UNAVAILABLE), None)
SUCCESS = Snapshot({KEYS[0]: PRESENT, KEYS[1]: ABSENT}, "sha", {})
THROTTLED = error("ProvisionedThroughputExceededException")


def keys(*names):
    return {"Keys": [{"pk": {"S": name}} for name in names]}


def batch(*items, champion="sha", unprocessed=None, **more):
    registry = [{"pk": {"S": "champion"}, "bundle": {"S": champion}}] if champion else []
    responses = {"features": list(items), "registry": registry}
    return answer({"Responses": responses, "UnprocessedKeys": unprocessed or {}}, **more)


def item(key, blob=b"blob", birth=7, n=3):
    return {
        "pk": {"S": key},
        "b": {"B": b64encode(blob).decode()},
        "vb": {"N": str(birth)},
        "vn": {"N": str(n)},
    }


ALL_FOUND = batch(item(KEYS[0]))


@pytest.fixture
def server(monkeypatch):
    with serving(ScriptedServer()) as server:
        point_at(server.url, monkeypatch)
        for service in ("S3", "SECRETSMANAGER"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", server.url)
        yield server


@pytest.fixture
def store(server, scorer_store):
    return scorer_store()


def test_one_request_reads_everything_and_later_ones_use_the_same_connection(server, store):
    server.script = [ALL_FOUND]
    assert store.read(KEYS, AMPLE_S) == SUCCESS
    assert store.read(KEYS, AMPLE_S) == SUCCESS
    assert (len(server.requests), server.connections) == (2, 1)
    assert [key["pk"]["S"] for key in server.requests[0]["RequestItems"]["features"]["Keys"]] == KEYS


def test_a_refused_connection_is_unavailable(monkeypatch, unused_port, scorer_store, decision):
    point_at(f"http://127.0.0.1:{unused_port}", monkeypatch)
    store = scorer_store()
    assert store.read(KEYS, AMPLE_S) == LOST
    with pytest.raises(StoreUnavailable, match="ConnectionRefusedError"):
        store.record(decision(), AMPLE_S)


def test_silence_ends_with_the_time_limit_and_the_next_call_starts_afresh(server, store, decision):
    server.script = [HANG, HANG, ALL_FOUND]
    assert store.read(KEYS, SHORT_S) == LOST
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        store.record(decision(), SHORT_S)
    assert store.read(KEYS, AMPLE_S) == SUCCESS


def test_silence_on_a_kept_connection_is_not_asked_twice(server, store):
    server.script = [ALL_FOUND, HANG]
    store.read(KEYS, AMPLE_S)
    assert store.read(KEYS, SHORT_S) == LOST
    assert len(server.requests) == 2


def test_no_time_left_is_no_request(server, store, decision):
    server.script = [ALL_FOUND]
    assert store.read(KEYS, 0.0) == LOST
    with pytest.raises(StoreUnavailable):
        store.record(decision(), -1.0)
    assert server.requests == []


@pytest.mark.parametrize(
    "kind",
    [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "InternalServerError",
    ],
)
def test_a_throttled_call_is_sent_again_once(server, store, decision, kind):
    server.script = [error(kind), ALL_FOUND]
    assert store.read(KEYS, AMPLE_S) == SUCCESS
    server.script = [error(kind, 500), answer({})]
    assert store.record(decision(), AMPLE_S) is None
    server.script = [error(kind)]
    assert store.read(KEYS, AMPLE_S) == LOST
    with pytest.raises(StoreUnavailable, match=kind):
        store.record(decision(), AMPLE_S)


@pytest.mark.parametrize(
    "kind", ["ValidationException", "AccessDeniedException", "ResourceNotFoundException"]
)
def test_what_cannot_get_better_is_not_sent_again(server, store, kind):
    server.script = [error(kind)]
    assert store.read(KEYS, AMPLE_S) == LOST
    assert len(server.requests) == 1


def test_unprocessed_keys_are_asked_for_again(server, store):
    server.script = [
        batch(unprocessed={"features": keys(KEYS[0])}),
        batch(item(KEYS[0]), champion=None),
    ]
    assert store.read(KEYS, AMPLE_S) == SUCCESS
    assert server.requests[1]["RequestItems"] == {"features": keys(KEYS[0])}


def test_an_unprocessed_champion_is_asked_for_again(server, store):
    server.script = [
        batch(item(KEYS[0]), champion=None, unprocessed={"registry": keys("champion")}),
        batch(),
    ]
    assert store.read(KEYS, AMPLE_S) == SUCCESS


def test_keys_never_processed_are_unavailable_and_never_absent(server, store):
    server.script = [batch(unprocessed={"features": keys(KEYS[0])})]
    assert store.read(KEYS, AMPLE_S) == Snapshot({KEYS[0]: UNAVAILABLE, KEYS[1]: ABSENT}, "sha", {})
    assert len(server.requests) == 3, "a table that throttles is not pressed until the deadline"


def test_keys_left_over_when_the_second_call_fails_are_unavailable(server, store):
    server.script = [batch(unprocessed={"features": keys(KEYS[0])}), error("ValidationException")]
    assert store.read(KEYS, AMPLE_S).reads == {KEYS[0]: UNAVAILABLE, KEYS[1]: ABSENT}


def of_synchronous(*items, unprocessed=None):
    return answer({"Responses": {"synchronous": list(items)}, "UnprocessedKeys": unprocessed or {}})


def test_synchronous_items_are_read_strongly_in_the_same_call(server, store):
    server.script = [of_synchronous(item(SYNCHRONOUS[0]))]
    reads = store.read(KEYS, AMPLE_S, SYNCHRONOUS).reads
    assert reads == {**dict.fromkeys(KEYS, ABSENT), SYNCHRONOUS[0]: PRESENT, SYNCHRONOUS[1]: ABSENT}
    (request,) = server.requests
    requested = request["RequestItems"]
    assert {table: table_request.get("ConsistentRead", False) for table, table_request in requested.items()} == {
        "features": False, "synchronous": True, "registry": False,
    }  # fmt: skip
    assert [key["pk"]["S"] for key in requested["synchronous"]["Keys"]] == SYNCHRONOUS


def test_unprocessed_keys_of_both_tables_are_asked_for_again(server, store):
    left = {"features": keys(KEYS[1]), "synchronous": keys(SYNCHRONOUS[0]) | {"ConsistentRead": True}}
    server.script = [batch(item(KEYS[0]), unprocessed=left), of_synchronous(item(SYNCHRONOUS[0]))]
    snapshot = store.read(KEYS, AMPLE_S, SYNCHRONOUS)
    wanted = {KEYS[0]: PRESENT, KEYS[1]: ABSENT, SYNCHRONOUS[0]: PRESENT, SYNCHRONOUS[1]: ABSENT}
    assert snapshot == Snapshot(wanted, "sha", {})
    assert server.requests[1]["RequestItems"] == left


def test_synchronous_keys_never_processed_are_unavailable_and_never_absent(server, store):
    server.script = [batch(item(KEYS[0]), unprocessed={"synchronous": keys(SYNCHRONOUS[1])})]
    wanted = {**SUCCESS.reads, SYNCHRONOUS[0]: ABSENT, SYNCHRONOUS[1]: UNAVAILABLE}
    assert store.read(KEYS, AMPLE_S, SYNCHRONOUS) == Snapshot(wanted, "sha", {})
    assert len(server.requests) == 3


@pytest.mark.parametrize("ending", [DROP, ALL_FOUND])
def test_a_connection_closed_while_idle_is_opened_again(server, store, ending):
    server.script = [batch(item(KEYS[0]), then_close=True), ALL_FOUND]
    assert store.read(KEYS, AMPLE_S) == SUCCESS
    assert store.read(KEYS, AMPLE_S) == SUCCESS
    assert server.connections == 2
    server.script = [DROP, ending]
    assert store.read(KEYS, AMPLE_S) == (SUCCESS if ending == ALL_FOUND else LOST)


def test_a_first_connection_that_is_dropped_is_not_tried_again(server, store):
    server.script = [DROP, ALL_FOUND]
    assert store.read(KEYS, AMPLE_S) == LOST
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "damaged",
    [
        Answer(200, ALL_FOUND.body, {"x-amz-crc32": "1"}),
        Answer(200, ALL_FOUND.body[:-9], {"content-length": str(len(ALL_FOUND.body))}, then_close=True),
        Answer(200, b"\x00" * 9),
        Answer(503, b"<html>no DynamoDB here</html>"),
        Answer(502, b""),
        Answer(200, b"[]"),
    ],
    ids=["checksum", "cut off", "noise", "a page", "nothing", "another shape"],
)
def test_an_answer_that_is_not_dynamodbs_is_no_answer(server, store, decision, damaged):
    server.script = [damaged]
    assert store.read(KEYS, AMPLE_S) == LOST
    with pytest.raises(StoreUnavailable):
        store.record(decision(), AMPLE_S)


def test_a_damaged_answer_on_a_kept_connection_is_asked_for_again(server, store):
    server.script = [ALL_FOUND, Answer(200, ALL_FOUND.body, {"x-amz-crc32": "1"}), ALL_FOUND]
    store.read(KEYS, AMPLE_S)
    assert store.read(KEYS, AMPLE_S) == SUCCESS


UNREADABLE = {
    "no blob": {"pk": {"S": KEYS[0]}, "vb": {"N": "7"}, "vn": {"N": "3"}},
    "no version": {"pk": {"S": KEYS[0]}, "b": {"B": "YWJj"}},
    "no base64": item(KEYS[0]) | {"b": {"B": "YWJ"}},
    "no number": item(KEYS[0]) | {"vn": {"N": "many"}},
    "another type": item(KEYS[0]) | {"b": {"S": "blob"}},
}


@pytest.mark.parametrize("damage", UNREADABLE)
def test_an_item_that_cannot_be_read_is_unavailable_and_the_others_are_there(server, store, damage):
    server.script = [batch(UNREADABLE[damage], item(KEYS[1]))]
    assert store.read(KEYS, AMPLE_S) == Snapshot({KEYS[0]: UNAVAILABLE, KEYS[1]: PRESENT}, "sha", {})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"Responses": None},
        {"Responses": []},
        {"Responses": {"features": [7]}},
        {"Responses": {"features": [{"pk": 7}]}},
        {"Responses": {"features": [{"b": {"B": ""}}]}},
        {"Responses": {}, "UnprocessedKeys": 7},
    ],
)
def test_a_batch_of_another_shape_is_no_answer(server, store, body):
    server.script = [answer(body)]
    assert store.read(KEYS, AMPLE_S) == LOST


@pytest.mark.parametrize("member", ["views", "challenger"])
@pytest.mark.parametrize("text", ["", "{", "7", '{"loans": 1}'])
def test_a_pointer_that_cannot_be_read_names_nothing(server, store, member, text):
    pointer = {"pk": {"S": "champion"}, "bundle": {"S": "sha"}, member: {"S": text}}
    server.script = [answer({"Responses": {"features": [item(KEYS[0])], "registry": [pointer]}})]
    snapshot = store.read(KEYS, AMPLE_S)
    assert (snapshot.champion, snapshot.reads) == (None, SUCCESS.reads)


def stored(record: bytes):
    return {
        "pk": {"S": "dec_1"},
        "m": {"S": "mer_1"},
        "f": {"S": "f" * 64},
        "r": {"B": b64encode(record).decode()},
        "a": {"B": b64encode(b'{"outcome":"approved"}').decode()},
        "q": {"N": "1800000000000"},
        "ttl": {"N": "4000000000"},
    }


def test_a_write_whose_answer_is_lost_is_sent_again_and_meets_itself(server, store, decision):
    server.script = [
        ALL_FOUND,
        DROP,
        error("ConditionalCheckFailedException", Item=stored(decision().record)),
    ]
    store.read(KEYS, AMPLE_S)
    assert store.record(decision(), AMPLE_S) is None
    assert server.requests[1] == server.requests[2]
    assert server.requests[1]["ConditionExpression"] == "attribute_not_exists(pk)"


def test_a_write_that_meets_another_record_gives_that_one(server, store, decision):
    server.script = [error("ConditionalCheckFailedException", Item=stored(b"theirs"))]
    assert store.record(decision(), AMPLE_S) == decision(record=b"theirs")


def cancelled(*reasons):
    return error("TransactionCanceledException", CancellationReasons=list(reasons))


NO_REASON = {"Code": "None"}
IN_CONFLICT = {"Code": "TransactionConflict"}


def failed(**members):
    return {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed", **members}


def test_a_transaction_names_every_condition(server, store, decision, commit):
    server.script = [answer({})]
    marked = commit(seen=Version(7, 3), marker_expiry=4_100_000_000)
    assert store.record(decision(), AMPLE_S, [marked, commit(KEYS[1])]) is None
    (request,) = server.requests
    puts = [action["Put"] for action in request["TransactItems"]]
    assert [(put["TableName"], put["Item"]["pk"]["S"], put["ConditionExpression"]) for put in puts] == [
        ("decisions", "dec_1", "attribute_not_exists(pk)"),
        ("synchronous", KEYS[0], "vb = :b AND vn = :n"),
        ("synchronous", f"marker#{KEYS[0]}#e1", "attribute_not_exists(pk)"),
        ("synchronous", KEYS[1], "attribute_not_exists(pk)"),
    ]
    assert puts[1]["ExpressionAttributeValues"] == {":b": {"N": "7"}, ":n": {"N": "3"}}
    assert puts[1]["Item"]["vn"] == {"N": "4"}
    assert {put["ReturnValuesOnConditionCheckFailure"] for put in puts} == {"ALL_OLD"}


def test_a_transaction_whose_answer_is_lost_is_sent_again_and_meets_itself(server, store, decision, commit):
    """A condition of each put fails then: the record says whose it is."""
    server.script = [
        ALL_FOUND,
        DROP,
        cancelled(failed(Item=stored(decision().record)), failed(Item=item(KEYS[0], n=4))),
    ]
    store.read(KEYS, AMPLE_S)
    assert store.record(decision(), AMPLE_S, [commit(seen=Version(7, 3))]) is None
    assert server.requests[1] == server.requests[2]


def test_a_record_in_the_way_is_answered_before_any_item(server, store, decision, commit):
    server.script = [cancelled(failed(Item=stored(b"theirs")), failed(Item=item(KEYS[0])))]
    assert store.record(decision(), AMPLE_S, [commit()]) == decision(record=b"theirs")


@pytest.mark.parametrize(
    ("reasons", "current"),
    [
        ((NO_REASON, failed(Item=item(KEYS[0])), NO_REASON), {KEYS[0]: PRESENT}),
        ((NO_REASON, failed(), failed(Item=item(KEYS[1]))), {KEYS[0]: ABSENT, KEYS[1]: PRESENT}),
        ((NO_REASON, IN_CONFLICT, failed(Item=item(KEYS[1]))), {KEYS[1]: PRESENT}),
        ((IN_CONFLICT, NO_REASON, NO_REASON), {}),
    ],
    ids=["one item", "two items", "another transaction", "another attempt"],
)
def test_a_cancelled_transaction_tells_what_stands(server, store, decision, commit, reasons, current):
    server.script = [cancelled(*reasons)]
    commits = [commit(seen=Version(7, 2)), commit(KEYS[1], seen=Version(7, 2))]
    assert store.record(decision(), AMPLE_S, commits) == Contended(current)
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", ["ThrottlingError", "ProvisionedThroughputExceeded", "ValidationError"])
def test_a_transaction_cancelled_for_another_reason_is_unavailable(server, store, decision, commit, code):
    server.script = [cancelled(NO_REASON, {"Code": code})]
    with pytest.raises(StoreUnavailable, match=code):
        store.record(decision(), AMPLE_S, [commit()])


REFUSALS = {
    "no item": error("ConditionalCheckFailedException"),
    "no base64": error("ConditionalCheckFailedException", Item=stored(b"") | {"r": {"B": "YWJ"}}),
    "no number": error("ConditionalCheckFailedException", Item=stored(b"") | {"q": {"N": "many"}}),
    "half an item": error("ConditionalCheckFailedException", Item={"pk": {"S": "dec_1"}}),
    "no reasons": error("TransactionCanceledException"),
    "a reason without its item": cancelled(failed()),
    "a reason without a code": cancelled({}),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_write_that_cannot_be_read_is_unavailable(server, store, decision, refusal):
    server.script = [REFUSALS[refusal]]
    with pytest.raises(StoreUnavailable):
        store.record(decision(), AMPLE_S)


def test_a_transaction_without_an_answer_is_unavailable(server, store, decision, commit):
    server.script = [HANG]
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        store.record(decision(), SHORT_S, [commit()])


def test_bundles_and_secrets_come_or_the_service_is_unavailable(server):
    source = BundleSource(region=REGION, bucket="bundles-1", credentials=CREDENTIALS)
    server.script = [Answer(200, b"the bundle"), Answer(404, b""), Answer(503, b"slow down")]
    assert source.load("ab" * 32, AMPLE_S) == b"the bundle"
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="s3: bundle abababababab answers"):
            source.load("ab" * 32, AMPLE_S)
    source._client.close()


def test_a_bundle_that_trickles_in_is_given_up_at_the_deadline(server):
    source = BundleSource(region=REGION, bucket="bundles-1", credentials=CREDENTIALS)
    large = bytes(100 * BLOCK)
    server.script = [Answer(200, large, pause_s=SHORT_S / 2), Answer(200, large)]
    with pytest.raises(StoreUnavailable, match="s3: TimeoutError"):
        source.load("ab" * 32, SHORT_S)
    assert source.load("ab" * 32, AMPLE_S) == large
    source._client.close()


def test_a_bundle_that_breaks_off_is_unavailable_not_refused(server):
    source = BundleSource(region=REGION, bucket="bundles-1", credentials=CREDENTIALS)
    server.script = [Answer(200, b"half", {"content-length": "8"}, then_close=True)]
    with pytest.raises(StoreUnavailable, match="s3: BrokenResponse"):
        source.load("ab" * 32, AMPLE_S)
    source._client.close()


def test_the_secret_is_text(server):
    server.script = [
        answer({"SecretString": "schlüssel"}, then_close=True),
        Answer(400, b"", then_close=True),
    ]
    assert read_secret("arn", REGION, CREDENTIALS) == "schlüssel".encode()
    with pytest.raises(StoreUnavailable, match="secretsmanager answers 400"):
        read_secret("arn", REGION, CREDENTIALS)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"7"])
def test_an_answer_without_a_secret_is_unavailable(server, body):
    server.script = [Answer(200, body)]
    with pytest.raises(StoreUnavailable, match="secret"):
        read_secret("decision-key", REGION, CREDENTIALS)


def test_credentials_come_from_the_standard_variables(monkeypatch):
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "s", "SESSION_TOKEN": ""}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    assert Credentials.from_environment() == Credentials("a", "s", None)


def test_without_an_endpoint_variable_the_service_is_awss_over_tls(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"):
        monkeypatch.delenv(name, raising=False)
    client = SignedClient("dynamodb", "eu-central-1", CREDENTIALS)
    assert (client._host, client._secure) == ("dynamodb.eu-central-1.amazonaws.com", True)


def test_the_general_endpoint_variable_counts_where_no_service_has_its_own(monkeypatch, server):
    monkeypatch.delenv("AWS_ENDPOINT_URL_DYNAMODB")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.script = [Answer(200, b"x")]
    client = SignedClient("dynamodb", REGION, CREDENTIALS)
    assert client.request(AwsRequest("POST", "/", {}, b"{}"), AMPLE_S).body == b"x"
    client.close()
