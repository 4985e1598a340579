"""The training run's three functions and the registry, on moto in this process."""

from __future__ import annotations

import importlib
import io
import json
import sys
import tarfile
from dataclasses import asdict
from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws

from candor.errors import BundleRefused, InvalidInput, StoreUnavailable
from candor.model.bundle import Bundle, Calibration
from candor.model.packed import unpack
from candor.model.policy_document import PolicyDocument
from candor.policy import table_hash
from candor.registry.artifacts import keep_bundle, keep_policy, read_object, s3_client
from candor.registry.gates import Thresholds
from candor.registry.lifecycle import Actor, ApprovalRefused, Proposal
from candor.registry.pointer import Pointer, PolicyInForce
from candor.registry.registry import Registry
from candor.registry.registry_table import PromotionConflict, Registration, RegistryItem
from candor.registry.training_run import PinnedPolicy
from lender import DEFINITIONS, REASONS, policy
from tests.decision_tables import limited
from tests.registry.evaluations import WORSE, sound

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
    "GATES": json.dumps(asdict(Thresholds())),
    "JOB_PREFIX": "candor-test-",
    "MODEL_PACKAGE_GROUP": "candor-test",
    "TRAINING_IMAGE": "image:1",
    "APPROVAL": "none",
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
        boto3.client("sagemaker").create_model_package_group(
            ModelPackageGroupName="candor-test", ModelPackageGroupDescription="bundles"
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


JOB = "candor-test-r1-train"
PACKED = f"s3://{TRAINING}/runs/r1/model/{JOB}/output/model.tar.gz"


def leave(s3, made: Bundle, evaluation: dict | None = None) -> dict:
    """Write the jobs' outputs; returns the state for the next step."""
    key = PACKED.removeprefix(f"s3://{TRAINING}/")
    s3.put_object(Bucket=TRAINING, Key=key, Body=packed(made.to_bytes()))
    written = {**sound(champion=None, comparison=None), **(evaluation or {}), "bundle": made.sha}
    s3.put_object(
        Bucket=TRAINING, Key="runs/r1/evaluation/evaluation.json", Body=json.dumps(written).encode()
    )
    s3.put_object(Bucket=TRAINING, Key="runs/r1/evaluation/report.html", Body=b"<html>")
    return {"run": "r1", "packed_uri": PACKED}


def read(s3, key: str, bucket: str = TRAINING) -> dict:
    return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def ended(job: str, kind: str = "Training") -> None:
    """A job of this name has completed; moto's jobs do at once."""
    client, role = boto3.client("sagemaker"), "arn:aws:iam::1:role/r"
    resources = {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 1}
    if kind == "Training":
        client.create_training_job(
            TrainingJobName=job,
            RoleArn=role,
            AlgorithmSpecification={"TrainingInputMode": "File", "TrainingImage": "i"},
            OutputDataConfig={"S3OutputPath": "s3://x"},
            ResourceConfig=resources,
            StoppingCondition={"MaxRuntimeInSeconds": 60},
        )
    else:
        client.create_processing_job(
            ProcessingJobName=job,
            RoleArn=role,
            AppSpecification={"ImageUri": "i"},
            ProcessingResources={"ClusterConfig": resources},
        )


def test_a_run_is_named_and_placed(aws):
    answer = call(
        "prepare_training", {"run": "r-1", "as_of": "2017-07-22T00:00:00Z", "seeds": [3, 1], "promote": True}
    )
    place, jobs = "s3://training/runs/r-1", "candor-test-r-1"
    assert answer == {
        "run": "r-1",
        "as_of": "2017-07-22T00:00:00.000Z",
        "seeds": "[3, 1]",
        "promote": True,
        "archive_uri": "s3://archive/events/",
        "dataset_uri": f"{place}/dataset",
        "champion_uri": f"{place}/champion",
        "policy_uri": f"{place}/policy",
        "model_uri": f"{place}/model",
        "packed_uri": f"{place}/model/{jobs}-train/output/model.tar.gz",
        "evaluation_uri": f"{place}/evaluation",
        "steps": {name: {"job": f"{jobs}-{name}", "done": False} for name in ("dataset", "train", "assess")},
        "attempt": 1,
        "wait_s": 60,
    }
    assert read(aws, "runs/r-1/order.json") == {
        "run": "r-1", "as_of": "2017-07-22T00:00:00.000Z", "seeds": [3, 1],
    }  # fmt: skip
    assert read(aws, "runs/r-1/champion/pointer.json") == {"bundle": None}
    assert read(aws, "runs/r-1/policy/released.json") == {"number": None, "document": None, "stale": []}


def test_a_scheduled_run_needs_no_input_but_its_moment_and_twice_is_one(aws):
    answer = call("prepare_training", {})
    assert answer["seeds"] == "[1, 2, 3, 4, 5]"
    assert answer["promote"] is False
    assert answer["run"].startswith("run-20")
    request = {"scheduled_at": "2026-11-23T03:00:00Z"}
    first = call("prepare_training", request)
    assert (first["run"], first["as_of"]) == ("run-20261123t030000", "2026-11-23T03:00:00.000Z")
    assert call("prepare_training", request) == first


def test_a_run_goes_on_with_what_it_was_asked_for_first(aws):
    first = call("prepare_training", {"run": "r1", "seeds": [7]})
    assert call("prepare_training", {"run": "r1"}) == first
    assert call("prepare_training", {"run": "r1", "promote": True}) == {**first, "promote": True}
    assert call("prepare_training", {"run": "r1", "as_of": first["as_of"], "seeds": [7]}) == first
    for other, field in (({"seeds": [8]}, "seeds"), ({"as_of": "2017-07-22T00:00:00Z"}, "as_of")):
        with pytest.raises(InvalidInput, match="name another run") as refused:
            call("prepare_training", {"run": "r1", **other})
        assert refused.value.field == field


def test_finished_jobs_of_a_run_are_passed_over_while_their_output_is_there(aws):
    made = bundle()
    call("prepare_training", {"run": "r1"})
    for kind, name in (("Processing", "dataset"), ("Training", "train"), ("Processing", "assess")):
        ended(f"candor-test-r1-{name}", kind)
    leave(aws, made)
    state = call("prepare_training", {"run": "r1"})
    done = {name: each["done"] for name, each in state["steps"].items()}
    assert done == {"dataset": False, "train": True, "assess": True}
    assert state["steps"]["dataset"]["job"] == "candor-test-r1-dataset-2"
    assert (state["attempt"], state["wait_s"]) == (2, 120)
    aws.put_object(Bucket=TRAINING, Key="runs/r1/dataset/manifest.json", Body=b"{}")
    assert call("prepare_training", {"run": "r1"})["steps"]["dataset"] == {
        "job": "candor-test-r1-dataset", "done": True,
    }  # fmt: skip


def test_an_evaluation_against_a_champion_that_serves_no_more_is_made_again(aws):
    older, made = bundle(0.7), bundle(0.72)
    call("register_model", leave(aws, older))
    call("prepare_training", {"run": "r2"})
    ended("candor-test-r2-assess", "Processing")
    aws.put_object(Bucket=TRAINING, Key="runs/r2/evaluation/evaluation.json", Body=b"{}")
    assert call("prepare_training", {"run": "r2"})["steps"]["assess"]["done"] is True
    call("promote_model", {"bundle": older.sha, "by": "ana"})
    again = call("prepare_training", {"run": "r2"})
    assert again["steps"]["assess"] == {"job": "candor-test-r2-assess-2", "done": False}
    assert read(aws, "runs/r2/champion/pointer.json") == {"bundle": older.sha}
    laid = aws.get_object(Bucket=TRAINING, Key="runs/r2/champion/bundle.json")["Body"].read()
    assert Bundle.from_bytes(laid, older.sha) == older
    assert made.sha != older.sha


def test_once_a_runs_own_bundle_serves_its_evaluation_stands(aws):
    made = bundle()
    call("prepare_training", {"run": "r1"})
    call("register_model", leave(aws, made))
    ended("candor-test-r1-assess", "Processing")
    call("promote_model", {"bundle": made.sha, "by": "policy:r1"})
    assert call("prepare_training", {"run": "r1"})["steps"]["assess"]["done"] is True
    assert read(aws, "runs/r1/champion/pointer.json") == {"bundle": None}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", "../other"),
        ("run", "a" * 41),
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
        ("scheduled_at", "soon"),
    ],
)
def test_a_wrong_input_starts_nothing_and_names_the_field(aws, field, value):
    with pytest.raises(InvalidInput) as refused:
        call("prepare_training", {"run": "r1", field: value})
    assert refused.value.field == field
    assert "Contents" not in aws.list_objects_v2(Bucket=TRAINING)


def test_a_good_model_is_registered_under_its_hash_and_twice_is_once(aws):
    made = bundle()
    state = leave(aws, made)
    answer = call("register_model", state)
    assert answer == {
        "bundle": made.sha,
        "passed": True,
        "compared": True,
        "champion": None,
        "metrics": {
            "auc": 0.71, "auc_low": 0.68, "auc_high": 0.74, "slope": 1.02, "psi": 0.06, "approval_rate": 0.8,
        },
        "refused": [],
        "policy": {"table": table_hash(policy()), "release": None, "notice": None},
        "no_lineage": None,
    }  # fmt: skip
    first = Registry(REGISTRY).registration(made.sha)
    assert (first.state, first.run, first.steps) == ("candidate", "r1", 1)
    assert first.policy == PolicyDocument.in_bundle(made).digest
    assert call("register_model", state) == answer
    assert Registry(REGISTRY).registration(made.sha) == first
    stored = aws.get_object(Bucket=BUNDLES, Key=f"bundles/{made.sha}.json")["Body"].read()
    assert Bundle.from_bytes(stored, made.sha) == made
    assert read(aws, f"bundles/{made.sha}/evaluation.json", BUNDLES)["bundle"] == made.sha
    assert aws.get_object(Bucket=BUNDLES, Key=f"bundles/{made.sha}/report.html")["Body"].read() == b"<html>"


def test_sagemakers_registry_has_one_entry_with_the_lineage(aws):
    made = bundle(lineage={"run": "r1", "rows": 7, "dataset_sha256": "d" * 64})
    state = leave(aws, made)
    for _ in range(2):
        call("register_model", state)
    client = boto3.client("sagemaker")
    [listed] = client.list_model_packages(ModelPackageGroupName="candor-test")["ModelPackageSummaryList"]
    assert listed["ModelPackageArn"] == Registry(REGISTRY).registration(made.sha).package
    package = client.describe_model_package(ModelPackageName=listed["ModelPackageArn"])
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == PACKED
    assert package["CustomerMetadataProperties"] == {
        "bundle": made.sha,
        "run": "r1",
        "definition_hash": made.definition_hash,
        "rows": "7",
        "dataset_sha256": "d" * 64,
    }


def test_a_registry_of_sagemakers_that_takes_no_entry_stops_nothing_and_is_tried_again(aws, monkeypatch):
    made = bundle()
    state = leave(aws, made)
    monkeypatch.setenv("MODEL_PACKAGE_GROUP", "missing")
    answer = call("register_model", state)
    assert answer["passed"] is True
    assert "SageMaker's model registry took no entry" in answer["no_lineage"]
    assert Registry(REGISTRY).registration(made.sha).package is None
    monkeypatch.setenv("MODEL_PACKAGE_GROUP", "candor-test")
    assert call("register_model", state)["no_lineage"] is None
    assert Registry(REGISTRY).registration(made.sha).package is not None


@pytest.mark.parametrize("gate", WORSE)
def test_a_model_that_is_worse_in_one_gate_is_kept_but_cannot_serve_and_is_told_why(aws, gate):
    made, (worse, reason) = bundle(), WORSE[gate]
    answer = call("register_model", leave(aws, made, worse()))
    assert (answer["passed"], answer["refused"]) == (False, [f"{gate}: {reason}"])
    known = Registry(REGISTRY).registration(made.sha)
    assert (known.state, list(known.gates)) == ("refused", [(gate, reason)])
    with pytest.raises(BundleRefused, match=f"is refused: it cannot serve .{gate}: "):
        call("promote_model", {"bundle": made.sha, "by": "ana"})
    package = boto3.client("sagemaker").describe_model_package(ModelPackageName=known.package)
    assert package["ModelApprovalStatus"] == "Rejected"


def test_an_evaluation_of_another_bundle_registers_nothing(aws):
    leave(aws, bundle(0.9))
    evaluated = aws.get_object(Bucket=TRAINING, Key="runs/r1/evaluation/evaluation.json")["Body"].read()
    made = bundle(0.8)
    state = leave(aws, made)
    aws.put_object(Bucket=TRAINING, Key="runs/r1/evaluation/evaluation.json", Body=evaluated)
    with pytest.raises(BundleRefused, match="is not about bundle"):
        call("register_model", state)
    aws.delete_object(Bucket=TRAINING, Key="runs/r1/evaluation/evaluation.json")
    with pytest.raises(BundleRefused, match="the evaluation job left none"):
        call("register_model", state)
    assert Registry(REGISTRY).registration(made.sha) is None


def test_a_model_of_other_definitions_is_refused(aws):
    with pytest.raises(BundleRefused, match="retrain"):
        call("register_model", leave(aws, bundle(definition_hash="0" * 64)))
    assert "Contents" not in aws.list_objects_v2(Bucket=BUNDLES)


def test_a_run_without_a_model_is_refused(aws):
    with pytest.raises(BundleRefused, match=r"nothing is at s3://training/runs/r1/model"):
        call("register_model", {"run": "r1", "packed_uri": PACKED})


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


def test_a_promotion_by_policy_needs_the_champion_that_was_compared_with(aws):
    first, second = bundle(0.7), bundle(0.72)
    for made in (first, second):
        call("register_model", leave(aws, made))
    request = {"bundle": first.sha, "champion": None, "by": "policy:r1"}
    assert call("promote_model", request)["bundle"] == first.sha
    assert call("promote_model", request)["bundle"] == first.sha
    with pytest.raises(PromotionConflict, match="another champion serves"):
        call("promote_model", {"bundle": second.sha, "champion": None, "by": "policy:r2"})
    assert Registry(REGISTRY).pointer().bundle == first.sha


def test_where_a_second_person_must_approve_the_function_promotes_nobody(aws, monkeypatch):
    made = bundle()
    call("register_model", leave(aws, made))
    monkeypatch.setenv("APPROVAL", "second_person")
    with pytest.raises(ApprovalRefused, match="candor models approve"):
        call("promote_model", {"bundle": made.sha, "by": "ana"})
    assert Registry(REGISTRY).pointer().bundle is None


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
        lambda: read_object(s3_client(), "s3://missing/runs/r1/model"),
        lambda: keep_bundle(s3_client(), "missing", "a", b""),
    ):
        with pytest.raises(StoreUnavailable):
            answer()


def test_the_table_models_patience_is_stated():
    meta = RegistryItem.Meta
    assert (meta.connect_timeout_seconds, meta.read_timeout_seconds, meta.max_retry_attempts) == (1, 5, 2)


def release(s3, most: int) -> PolicyDocument:
    """Put the table with this limit in force, as `candor policy approve` does to a stage without a champion."""
    document, registry = PolicyDocument.of(limited(most), REASONS), Registry(REGISTRY)
    keep_policy(s3, BUNDLES, document)
    seen = registry.pointer()
    replaces = seen.policy or PolicyInForce(0, "before", "before", 0, "")
    proposal = Proposal("policy", "ana", 1)
    proposed = registry.propose_policy(document.digest, document.hash, replaces, proposal)
    registry.release_policy(proposed, {}, seen, Actor("ana", 1))
    return document


def test_a_run_gets_the_released_policy_and_not_the_codes(aws):
    document = release(aws, 50_000)
    call("prepare_training", {"run": "r1"})
    pinned = PinnedPolicy.parse(read(aws, "runs/r1/policy/released.json"))
    assert (pinned.number, pinned.document) == (1, document)
    table, reasons = pinned.composed(policy(), REASONS)
    assert table_hash(table) == document.hash != table_hash(policy())
    assert reasons == REASONS
    made = bundle(policy=table)
    answer = call("register_model", leave(aws, made))
    assert answer["passed"] is True
    assert answer["policy"]["release"] == 1
    assert answer["policy"]["notice"].startswith(f"the code's table {table_hash(policy())[:12]} differs from")
    assert call("promote_model", {"bundle": made.sha, "by": "policy:r1"})["bundle"] == made.sha


def test_a_candidate_with_another_table_than_the_released_one_is_refused(aws):
    call("prepare_training", {"run": "r1"})
    release(aws, 50_000)
    answer = call("register_model", leave(aws, bundle()))
    assert answer["passed"] is False
    [reason] = answer["refused"]
    assert reason.startswith("policy: the bundle has decision table")
    assert Registry(REGISTRY).registration(answer["bundle"]).state == "refused"


def test_a_bundle_that_passed_before_a_release_is_not_promoted_after_it(aws):
    answer = call("register_model", leave(aws, bundle()))
    assert answer["passed"] is True
    release(aws, 50_000)
    with pytest.raises(BundleRefused, match="another decision table"):
        call("promote_model", {"bundle": answer["bundle"], "by": "policy:r1"})
    assert Registry(REGISTRY).pointer().bundle is None


def test_jobs_that_took_another_policy_are_repeated_once_and_for_all(aws):
    call("prepare_training", {"run": "r1"})
    for kind, name in (("Processing", "dataset"), ("Training", "train"), ("Processing", "assess")):
        ended(f"candor-test-r1-{name}", kind)
    leave(aws, bundle())
    aws.put_object(Bucket=TRAINING, Key="runs/r1/dataset/manifest.json", Body=b"{}")
    release(aws, 50_000)
    for _ in range(2):  # the run may be interrupted between this step and the training job
        steps = call("prepare_training", {"run": "r1"})["steps"]
        assert steps == {
            "dataset": {"job": "candor-test-r1-dataset", "done": True},
            "train": {"job": "candor-test-r1-train-2", "done": False},
            "assess": {"job": "candor-test-r1-assess-2", "done": False},
        }
    ended("candor-test-r1-train-2")
    packed_key = "runs/r1/model/candor-test-r1-train-2/output/model.tar.gz"
    aws.put_object(Bucket=TRAINING, Key=packed_key, Body=b"model")
    assert call("prepare_training", {"run": "r1"})["steps"]["train"]["done"] is True


def test_a_run_from_before_releases_goes_on(aws):
    call("prepare_training", {"run": "r1"})
    aws.delete_object(Bucket=TRAINING, Key="runs/r1/policy/released.json")
    ended("candor-test-r1-train")
    leave(aws, bundle())
    assert call("prepare_training", {"run": "r1"})["steps"]["train"]["done"] is True
    assert read(aws, "runs/r1/policy/released.json")["stale"] == []
