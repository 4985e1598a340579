"""The retraining's three functions and the registry behind them, on moto in this process."""

from __future__ import annotations

import importlib
import io
import json
import sys
import tarfile
from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws

from candor.edge.retraining import prepare_run
from candor.errors import BundleRefused, InvalidInput, StoreUnavailable
from candor.model.bundle import Bundle, Calibration
from candor.model.packed import unpack
from candor.store.artifacts import keep_bundle, newest_model, s3_client
from candor.store.pointer import Pointer
from candor.store.registry import Registry
from candor.store.registry_items import PromotionConflict, Registration, RegistryItem
from lender import DEFINITIONS, REASONS, policy

REGISTRY, ARCHIVE, TRAINING, BUNDLES = "registry", "archive", "training", "bundles"
CONTEXT = SimpleNamespace(
    function_name="step",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:1:function:step",
    aws_request_id="req",
)
ENVIRONMENT = {
    "STAGE": "test",
    "POWERTOOLS_SERVICE_NAME": "training",
    "POWERTOOLS_METRICS_NAMESPACE": "Candor",
    "REGISTRY_TABLE": REGISTRY,
    "ARCHIVE_BUCKET": ARCHIVE,
    "TRAINING_BUCKET": TRAINING,
    "BUNDLES_BUCKET": BUNDLES,
    "GATE_MIN_AUC": "0.65",
}


@pytest.fixture
def aws(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        s3 = boto3.client("s3")
        for bucket in (ARCHIVE, TRAINING, BUNDLES):
            s3.create_bucket(Bucket=bucket)
        boto3.client("dynamodb").create_table(
            TableName=REGISTRY,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield s3


def call(name: str, event: dict) -> dict:
    """The handler as Lambda loads it: imported with the environment in place."""
    module = f"functions.{name}.handler"
    sys.modules.pop(module, None)
    answer = importlib.import_module(module).handler(event, CONTEXT)
    return json.loads(json.dumps(answer))


def bundle(auc: float = 0.71, **changes) -> Bundle:
    members = {
        "model": f"tree\nversion=v4\nfeature_names={' '.join(DEFINITIONS.features)}\n",
        "features": DEFINITIONS.features,
        "definition_hash": DEFINITIONS.hash,
        "calibration": Calibration(slope=1.0, intercept=0.0),
        "cutoff": 0.2,
        "reason_reference": {},
        "policy": policy(),
        "reasons": REASONS,
        "metrics": {"auc": auc},
        "lineage": {"run": "r1"},
    }
    return Bundle(**(members | changes))


def packed(data: bytes, name: str = "bundle.json") -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def leave(s3, made: Bundle, job: str = "job") -> dict:
    """What the training job leaves, and the state that the machine hands to the next step."""
    key = f"runs/r1/model/{job}/output/model.tar.gz"
    s3.put_object(Bucket=TRAINING, Key=key, Body=packed(made.to_bytes()))
    return {"run": "r1", "model_uri": f"s3://{TRAINING}/runs/r1/model"}


def test_a_run_is_named_and_placed(aws):
    answer = call(
        "prepare_training", {"run": "r-1", "as_of": "2017-07-22T00:00:00Z", "seeds": [3, 1], "promote": True}
    )
    assert answer == {
        "run": "r-1",
        "as_of": "2017-07-22T00:00:00.000Z",
        "seeds": "[3, 1]",
        "promote": True,
        "archive_uri": "s3://archive/events/",
        "dataset_uri": "s3://training/runs/r-1/dataset",
        "model_uri": "s3://training/runs/r-1/model",
    }


def test_a_scheduled_run_needs_no_input(aws):
    answer = call("prepare_training", {})
    assert answer["seeds"] == "[1, 2, 3, 4, 5]"
    assert answer["promote"] is False
    assert answer["run"].startswith("run-20")
    assert answer["as_of"].endswith("Z")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", "../other"),
        ("run", "a" * 44),
        ("run", "two--hyphens"),
        ("run", 7),
        ("as_of", "2017-07-22"),
        ("as_of", "2999-01-01T00:00:00Z"),
        ("as_of", 5),
        ("seeds", [1, 1]),
        ("seeds", ["1"]),
        ("seeds", [True]),
        ("seeds", "1"),
        ("seeds", list(range(21))),
        ("promote", "yes"),
    ],
)
def test_a_wrong_input_starts_nothing_and_names_the_field(field, value):
    with pytest.raises(InvalidInput) as refused:
        prepare_run({"run": "r1", field: value}, ARCHIVE, TRAINING, 1_800_000_000_000)
    assert refused.value.field == field


def test_a_good_model_is_registered_under_its_hash_and_twice_is_once(aws):
    made = bundle()
    state = leave(aws, made)
    answer = call("register_model", state)
    assert answer == {"bundle": made.sha, "passed": True, "metrics": {"auc": 0.71}}
    first = Registry(REGISTRY).registration(made.sha)
    assert call("register_model", state) == answer
    assert Registry(REGISTRY).registration(made.sha) == first
    stored = aws.get_object(Bucket=BUNDLES, Key=f"bundles/{made.sha}.json")["Body"].read()
    assert Bundle.from_bytes(stored, made.sha) == made


def test_the_latest_job_of_a_run_counts(aws, monkeypatch):
    leave(aws, bundle(0.9), "a-first")
    made = bundle(0.8)
    state = leave(aws, made, "b-retry")
    assert call("register_model", state)["bundle"] == made.sha


def test_a_model_below_the_gate_is_kept_but_cannot_serve(aws):
    made = bundle(auc=0.6499)
    answer = call("register_model", leave(aws, made))
    assert answer["passed"] is False
    assert Registry(REGISTRY).registration(made.sha).state == "refused"
    with pytest.raises(BundleRefused, match="is refused: it cannot serve"):
        call("promote_model", {"bundle": made.sha, "by": "ana"})


def test_a_model_of_other_definitions_is_refused(aws):
    with pytest.raises(BundleRefused, match="retrain"):
        call("register_model", leave(aws, bundle(definition_hash="0" * 64)))
    assert "Contents" not in aws.list_objects_v2(Bucket=BUNDLES)


def test_a_run_without_a_model_is_refused(aws):
    with pytest.raises(BundleRefused, match=r"no model.tar.gz below s3://training/runs/r1/model"):
        call("register_model", {"run": "r1", "model_uri": f"s3://{TRAINING}/runs/r1/model"})


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"", "cannot be read"),
        (b"not a tar", "cannot be read"),
        (packed(b"{}", "other.json"), "holds no bundle.json"),
        (packed(bundle().to_bytes())[:-900], "cannot be read"),
        (packed(b"{}"), "not a bundle"),
    ],
    ids=["empty", "no archive", "no bundle", "cut", "another file"],
)
def test_a_damaged_archive_is_refused(archive, message):
    with pytest.raises(BundleRefused, match=message):
        unpack(archive)


def test_promotion_and_rollback_are_one_pointer_write_each(aws):
    first, second = bundle(0.7), bundle(0.72)
    for made in (first, second):
        call("register_model", leave(aws, made))
    assert call("promote_model", {"bundle": first.sha, "by": "policy:r1"})["bundle"] == first.sha
    promoted = call("promote_model", {"bundle": second.sha, "by": "ana"})
    assert promoted["by"] == "ana"
    champion = Registry(REGISTRY).pointer()
    assert (champion.bundle, champion.promoted_at, champion.by) == (
        second.sha,
        promoted["promoted_at"],
        "ana",
    )
    assert call("promote_model", {"bundle": second.sha, "by": "bob"}) == promoted
    assert call("promote_model", {"bundle": first.sha, "by": "bob"})["bundle"] == first.sha


def test_the_pointer_is_spelled_as_the_scorer_reads_it(aws):
    made = bundle()
    call("register_model", leave(aws, made))
    call("promote_model", {"bundle": made.sha, "by": "ana"})
    item = boto3.client("dynamodb").get_item(TableName=REGISTRY, Key={"pk": {"S": "champion"}})["Item"]
    assert set(item) == {"pk", "bundle", "promoted_at", "by", "moves"}
    assert item["bundle"] == {"S": made.sha}


def test_an_unknown_bundle_is_not_promoted(aws):
    with pytest.raises(BundleRefused, match="has no file"):
        call("promote_model", {"bundle": "f" * 64, "by": "ana"})
    keep_bundle(s3_client(), BUNDLES, "f" * 64, b"{}")
    with pytest.raises(BundleRefused, match="is unknown"):
        call("promote_model", {"bundle": "f" * 64, "by": "ana"})
    assert Registry(REGISTRY).pointer().bundle is None


def test_two_promotions_at_once_conflict(aws, monkeypatch):
    registry = Registry(REGISTRY)
    for sha in ("a", "b", "c"):
        registry.register(Registration(sha, "candidate", {}, "r", 1))
    registry.promote("a", by="ana", at=1)
    stale = registry.pointer()
    registry.promote("b", by="bob", at=2)
    monkeypatch.setattr(registry, "pointer", lambda: stale)
    with pytest.raises(PromotionConflict, match="try again"):
        registry.promote("c", by="ana", at=3)
    assert Registry(REGISTRY).pointer().bundle == "b"


def test_the_first_promotions_at_once_conflict(aws, monkeypatch):
    registry = Registry(REGISTRY)
    for sha in ("a", "b"):
        registry.register(Registration(sha, "candidate", {}, "r", 1))
    registry.promote("a", by="ana", at=1)
    monkeypatch.setattr(registry, "pointer", Pointer)
    with pytest.raises(PromotionConflict):
        registry.promote("b", by="bob", at=2)


def test_a_new_verdict_replaces_the_old_one(aws):
    registry = Registry(REGISTRY)
    registry.register(Registration("a", "refused", {"auc": 0.6}, "r", 1))
    registry.register(Registration("a", "candidate", {"auc": 0.6}, "r", 2))
    assert registry.registration("a").state == "candidate"


def test_stores_that_do_not_answer_are_named(aws):
    for answer in (
        lambda: Registry("missing").pointer(),
        lambda: Registry("missing").register(Registration("a", "candidate", {}, "r", 1)),
        lambda: newest_model(s3_client(), "s3://missing/runs/r1/model"),
        lambda: keep_bundle(s3_client(), "missing", "a", b""),
    ):
        with pytest.raises(StoreUnavailable):
            answer()


def test_the_table_models_patience_is_stated():
    meta = RegistryItem.Meta
    assert (meta.connect_timeout_seconds, meta.read_timeout_seconds, meta.max_retry_attempts) == (1, 5, 2)
