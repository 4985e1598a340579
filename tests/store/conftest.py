"""The stores under test: memory, pynamodb and the signed client, the last two on every DynamoDB engine at hand."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from pynamodb.connection import Connection
from pynamodb.models import Model

from candor.features.vector import Read
from candor.store import dynamodb
from candor.store.dynamodb import DynamoDecisionStore, DynamoFeatureStore
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import Commit, DecisionStore, FeatureStore, StoredDecision
from candor.store.scorer import ScorerStore
from candor.store.signed.client import Credentials
from local.aws import dynoxide
from tests.moto_server import moto_server

REGION = "us-east-1"
CREDENTIALS = Credentials("testing", "testing", "testing")
TABLES = ("features", "synchronous", "decisions", "registry")
_new_connection = dynamodb._connection.__wrapped__


@dataclass
class Engine:
    """One running DynamoDB with the project's tables, and the clients on it: making one costs more than a test."""

    url: str
    client: Any
    _features: DynamoFeatureStore | None = None
    _synchronous: DynamoFeatureStore | None = None
    _decisions: DynamoDecisionStore | None = None

    def __post_init__(self) -> None:
        for table in TABLES:
            self.client.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            )

    def items(self, table: str) -> dict[str, dict[str, Any]]:
        items = self.client.scan(TableName=table, ConsistentRead=True)["Items"]
        return {item["pk"]["S"]: item for item in items}

    def erase(self, table: str, key: str) -> None:
        self.client.delete_item(TableName=table, Key={"pk": {"S": key}})

    def clear(self) -> None:
        for table in TABLES:
            for key in self.items(table):
                self.erase(table, key)

    def promote(self, sha: str | None, views: Mapping[str, str] | None = None) -> None:
        item = {"pk": {"S": "champion"}}
        if sha:
            item["bundle"] = {"S": sha}
        if views:
            item["views"] = {"S": json.dumps(views)}
        self.client.put_item(TableName="registry", Item=item)

    def pointer(self) -> tuple[str | None, Mapping[str, str] | None]:
        item = self.items("registry").get("champion")
        if item is None:
            return None, None
        return item.get("bundle", {}).get("S"), json.loads(item.get("views", {}).get("S", "{}"))

    @property
    def features(self) -> DynamoFeatureStore:
        self._features = self._features or DynamoFeatureStore("features")
        return self._features

    @property
    def synchronous(self) -> DynamoFeatureStore:
        self._synchronous = self._synchronous or DynamoFeatureStore("synchronous")
        return self._synchronous

    @property
    def decisions(self) -> DynamoDecisionStore:
        self._decisions = self._decisions or DynamoDecisionStore(
            "features", "decisions", self.pointer, "synchronous"
        )
        return self._decisions

    def close(self) -> None:
        self.client.close()
        for store in filter(None, (self._features, self._synchronous)):
            disconnect(store._item)
        if self._decisions:
            disconnect_decisions(self._decisions)


def disconnect(*models: type[Model]) -> None:
    """Close the sockets that pynamodb keeps open for good."""
    for model in models:
        if model._connection is not None:
            model._connection.connection.client.close()


def disconnect_decisions(store: DynamoDecisionStore) -> None:
    disconnect(store._item, store._features._item, store._synchronous._item)


@pytest.fixture(scope="module")  # not longer: tests elsewhere in this process begin with an empty moto
def moto_engine() -> Iterator[Engine]:
    with moto_server() as url:
        engine = _engine(url)
        yield engine
        engine.close()


@pytest.fixture(scope="session")
def dynoxide_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if not dynoxide.supported() or not dynoxide._BINARY.exists():
        pytest.skip("dynoxide is not installed here: `make run` installs it where it is published")
    folder: Path = tmp_path_factory.mktemp("dynoxide")
    running = dynoxide.Dynoxide(folder / "tables.db", folder / "log")
    engine = _engine(running.url)
    yield engine
    engine.close()
    _connection_to(running.url).client.close()
    running.close()


def _engine(url: str) -> Engine:
    return Engine(url, boto3.client("dynamodb", endpoint_url=url, region_name=REGION))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[str], Engine]:
    """Points the stores at an emptied engine by name, as the functions' environment does."""

    def chosen(name: str) -> Engine:
        engine: Engine = request.getfixturevalue(f"{name}_engine")
        point_at(engine.url, monkeypatch)
        engine.clear()
        return engine

    return chosen


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients made from now on, and the one connection for transactions, go to this address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
    monkeypatch.setattr(dynamodb, "_connection", partial(_connection_to, url))


@lru_cache(maxsize=8)
def _connection_to(url: str) -> Connection:
    return _new_connection()


@dataclass
class Features:
    """A feature store under test, and a way to delete an item directly."""

    store: FeatureStore
    erase: Callable[[str], None]


@dataclass
class Decisions:
    """A decision store under test, the items it reads, and what else a test needs to arrange."""

    store: DecisionStore
    another: Callable[[], DecisionStore]
    features: FeatureStore
    synchronous: FeatureStore
    promote: Callable[..., None]


def features_on(name: str, use: Callable[[str], Engine]) -> Features:
    if name == "memory":
        memory = MemoryFeatureStore()
        return Features(memory, memory.items.pop)
    engine = use(name)
    return Features(engine.features, lambda key: engine.erase("features", key))


def decisions_on(
    name: str, use: Callable[[str], Engine], scorer_store: Callable[[], ScorerStore]
) -> Decisions:
    if name == "memory":
        memory = MemoryDecisionStore(MemoryFeatureStore())
        return Decisions(
            memory,
            lambda: memory,
            memory.features,
            memory.synchronous,
            lambda sha, views=None: vars(memory).update(champion=sha, views=views or {}),
        )
    client, engine_name = name.split("-")
    engine = use(engine_name)
    another = scorer_store if client == "scorer" else lambda: engine.decisions
    return Decisions(another(), another, engine.features, engine.synchronous, engine.promote)


@pytest.fixture
def scorer_store() -> Iterator[Callable[[], ScorerStore]]:
    """Makes scorer stores and closes their connections: a sandbox never does, it is frozen and thrown away."""
    made: list[ScorerStore] = []

    def build() -> ScorerStore:
        made.append(
            ScorerStore(
                region=REGION,
                features="features",
                synchronous="synchronous",
                decisions="decisions",
                registry="registry",
                credentials=CREDENTIALS,
            )
        )
        return made[-1]

    yield build
    for store in made:
        store._client.close()


@pytest.fixture(params=["memory", "moto", "dynoxide"])
def features(request: pytest.FixtureRequest, use: Callable[[str], Engine]) -> Features:
    return features_on(request.param, use)


@pytest.fixture(params=["memory", "dynoxide"])
def transactional(request: pytest.FixtureRequest, use: Callable[[str], Engine]) -> Features:
    """Only engines whose transactions behave as DynamoDB's: moto's do not."""
    return features_on(request.param, use)


@pytest.fixture(params=["memory", "pynamodb-moto", "pynamodb-dynoxide", "scorer-moto", "scorer-dynoxide"])
def decisions(request, use, scorer_store) -> Decisions:
    return decisions_on(request.param, use, scorer_store)


@pytest.fixture(params=["memory", "pynamodb-dynoxide", "scorer-dynoxide"])
def contended(request, use, scorer_store) -> Decisions:
    """Only engines that take concurrent writers as DynamoDB does."""
    return decisions_on(request.param, use, scorer_store)


@pytest.fixture
def commit() -> Callable[..., Commit]:
    def build(key: str = "view@1#ann", **changed: Any) -> Commit:
        settled = {
            "key": key, "blob": b"\x00\xffbytes", "seen": None, "event_ids": ["e1"], "applied_at": 1_000,
            "expires_at": 4_000_000_000,
        }  # fmt: skip
        return Commit(**settled | changed)

    return build


@pytest.fixture
def decision() -> Callable[..., StoredDecision]:
    def build(**changed: Any) -> StoredDecision:
        settled = {
            "id": "dec_1", "merchant_id": "mer_1", "fingerprint": "f" * 64, "record": b'{"id":"dec_1"}',
            "answer": b'{"outcome":"approved"}', "q": 1_800_000_000_000, "expires_at": 4_000_000_000,
        }  # fmt: skip
        return StoredDecision(**settled | changed)

    return build


def read_one(store: FeatureStore, key: str = "view@1#ann") -> Read:
    return store.load([key])[key]


@pytest.fixture
def unused_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
