"""A small assembly as the CDK writes it: one stack with every kind of resource that the local system runs."""

import copy
import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

CONSUMER = """
    import json, os, boto3

    table = boto3.client("dynamodb")

    def handler(event, context):
        failed = []
        for record in event["Records"]:
            detail = json.loads(record["body"])["detail"]
            if detail.get("poison"):
                failed.append({"itemIdentifier": record["messageId"]})
                continue
            table.put_item(TableName=os.environ["TABLE"], Item={"pk": {"S": detail["event_id"]}})
        return {"batchItemFailures": failed}
"""

STEP = """
    def handler(event, context):
        if event.get("fail"):
            raise ValueError("asked to fail")
        return {"run": event["run"], "script": event.get("script", ""), "via": context.function_name}
"""

SUB_ARN = {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/any"}
ROLE = "arn:aws:iam::123456789012:role/any"
DATASET = "States.Format('s3://${bucket}/{}/dataset', $.run)"
SCRIPT = {"ContainerEntrypoint": ["python", "-c"], "ContainerArguments.$": "States.Array($.script)"}


def _resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def _arn(logical_id: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [logical_id, "Arn"]}


def _function(key: str, **environment: Any) -> dict[str, Any]:
    return _resource(
        "Lambda::Function",
        Code={"S3Bucket": {"Fn::Sub": "assets-${AWS::Region}"}, "S3Key": f"{key}.zip"},
        Handler="handler.handler",
        Runtime="python3.13",
        Role=SUB_ARN,
        Timeout=20,
        Environment={"Variables": environment},
    )


def _rule(target: str) -> dict[str, Any]:
    return _resource(
        "Events::Rule",
        EventBusName={"Ref": "Bus"},
        EventPattern={"source": ["test"]},
        State="ENABLED",
        Targets=[{"Id": "Target0", "Arn": _arn(target)}],
    )


def _task(service: str, parameters: dict[str, Any], caught: str, **rest: Any) -> dict[str, Any]:
    catch = {"ErrorEquals": [caught], "ResultPath": "$.error", "Next": "Caught"}
    resource = f"arn:aws:states:::{service}"
    return {"Type": "Task", "Resource": resource, "Parameters": parameters, "Catch": [catch], **rest}


def _processing_job() -> dict[str, Any]:
    raw = {"S3Uri": "s3://${bucket}/raw/", "LocalPath": "/opt/ml/processing/input/raw"}
    made = {"S3Uri.$": DATASET, "LocalPath": "/opt/ml/processing/output/dataset"}
    return {
        "ProcessingJobName.$": "States.Format('{}-prepare', $.run)",
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": "image", **SCRIPT},
        "Environment": {"WORD": "given"},
        "ProcessingInputs": [{"InputName": "in", "S3Input": raw}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "S3Output": made}]},
    }


def _training_job() -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri.$": DATASET}}
    return {
        "TrainingJobName.$": "States.Format('{}-train', $.run)",
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": "image", **SCRIPT},
        "HyperParameters": {"depth": "3"},
        "InputDataConfig": [{"ChannelName": "dataset", "DataSource": source}],
        "OutputDataConfig": {"S3OutputPath": "s3://${bucket}/models"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


def _job_states() -> dict[str, Any]:
    step = {"FunctionName": "${step}", "Payload.$": "$"}
    ended = {"status.$": "$.TrainingJobStatus", "model.$": "$.ModelArtifacts.S3ModelArtifacts"}
    prepare, train = "sagemaker:createProcessingJob.sync", "sagemaker:createTrainingJob.sync"
    failed = "States.TaskFailed"
    return {
        "StartAt": "Step",
        "States": {
            "Step": _task("lambda:invoke", step, "ValueError", OutputPath="$.Payload", Next="Prepare"),
            "Prepare": _task(prepare, _processing_job(), failed, ResultPath=None, Next="Train"),
            "Train": _task(train, _training_job(), failed, ResultSelector=ended, End=True),
            "Caught": {"Type": "Fail", "Error": "Caught", "CausePath": "States.JsonToString($.error)"},
        },
    }


def _stores() -> dict[str, Any]:
    table = _resource(
        "DynamoDB::Table",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamViewType": "NEW_IMAGE"},
        TimeToLiveSpecification={"AttributeName": "ttl", "Enabled": True},
    )
    generated = {"PasswordLength": 40, "ExcludePunctuation": True}
    return {
        "Table": table,
        "Archive": _resource("S3::Bucket", VersioningConfiguration={"Status": "Enabled"}),
        "Key": _resource("SecretsManager::Secret", GenerateSecretString=generated),
        "Limit": _resource("SSM::Parameter", Name="/small/limit", Type="String", Value="7"),
    }


def _delivery() -> dict[str, Any]:
    redrive = {"deadLetterTargetArn": _arn("Letters"), "maxReceiveCount": 2}
    destination = {
        "BucketARN": _arn("Archive"),
        "Prefix": "events/",
        "CompressionFormat": "GZIP",
        "BufferingHints": {"IntervalInSeconds": 60, "SizeInMBs": 1},
        "ProcessingConfiguration": {
            "Enabled": True,
            "Processors": [{"Type": "AppendDelimiterToRecord", "Parameters": []}],
        },
    }
    return {
        "Bus": _resource("Events::EventBus", Name="small-bus"),
        "Letters": _resource("SQS::Queue"),
        "Queue": _resource("SQS::Queue", VisibilityTimeout=60, RedrivePolicy=redrive),
        "ToQueue": _rule("Queue"),
        "ToArchive": _rule("Stream"),
        "Stream": _resource(
            "KinesisFirehose::DeliveryStream",
            DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration=destination,
        ),
    }


def _programs() -> dict[str, Any]:
    poll = _resource(
        "Lambda::EventSourceMapping",
        BatchSize=50,
        EventSourceArn=_arn("Queue"),
        FunctionName={"Ref": "Consume"},
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 2},
    )
    machine = _resource(
        "StepFunctions::StateMachine",
        DefinitionString=json.dumps(_job_states()),
        DefinitionSubstitutions={"step": _arn("Step"), "bucket": {"Ref": "Archive"}},
        RoleArn=_arn("Role"),
    )
    return {
        "Consume": _function("consume", TABLE={"Ref": "Table"}),
        "Step": _function("step"),
        "Poll": poll,
        "Role": _resource("IAM::Role"),
        "Machine": machine,
    }


OUTPUTS = {
    "TableName": "Table",
    "ArchiveName": "Archive",
    "QueueUrl": "Queue",
    "LettersUrl": "Letters",
    "KeyArn": "Key",
    "MachineArn": "Machine",
    "StepName": "Step",
}


def small_template() -> dict[str, Any]:
    outputs = {name: {"Value": {"Ref": logical_id}} for name, logical_id in OUTPUTS.items()}
    return {"Resources": {**_stores(), **_delivery(), **_programs()}, "Outputs": outputs}


def write_assembly(
    folder: Path, stacks: Mapping[str, Mapping[str, Any]], code: Mapping[str, str] = {}
) -> Path:
    """An assembly with these templates, each depending on the one before, and these handlers as assets."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, source in code.items():
        asset = folder / f"asset.{name}"
        asset.mkdir()
        (asset / "handler.py").write_text(textwrap.dedent(source))
        files[name] = {"source": {"path": asset.name}, "destinations": {"here": {"objectKey": f"{name}.zip"}}}
    (folder / "all.assets.json").write_text(json.dumps({"files": files}))
    artifacts: dict[str, Any] = {
        "assets": {"type": "cdk:asset-manifest", "properties": {"file": "all.assets.json"}}
    }
    before = "assets"
    for name, template in stacks.items():
        (folder / f"{name}.template.json").write_text(json.dumps(template))
        artifacts[name] = {
            "type": "aws:cloudformation:stack",
            "environment": "aws://unknown-account/unknown-region",
            "properties": {"templateFile": f"{name}.template.json", "additionalDependencies": ["assets"]},
            "dependencies": [before],
        }
        before = name
    order = dict(reversed(artifacts.items()))  # dependencies decide, not the order in the file
    (folder / "manifest.json").write_text(json.dumps({"version": "55.0.0", "artifacts": order}))
    return folder


@pytest.fixture(scope="session")
def small_assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assembly") / "cdk.out"
    return write_assembly(folder, {"small": small_template()}, {"consume": CONSUMER, "step": STEP})


@pytest.fixture
def assembly_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes an assembly of given templates."""

    def write(**stacks: Mapping[str, Any]) -> Path:
        return write_assembly(
            tmp_path / "cdk.out", copy.deepcopy(stacks), {"consume": CONSUMER, "step": STEP}
        )

    return write


@pytest.fixture
def template() -> dict[str, Any]:
    return small_template()
