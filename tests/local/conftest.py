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


def _function(key: str, **environment: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Code": {"S3Bucket": {"Fn::Sub": "assets-${AWS::Region}"}, "S3Key": f"{key}.zip"},
            "Handler": "handler.handler",
            "Runtime": "python3.13",
            "Role": SUB_ARN,
            "Timeout": 20,
            "Environment": {"Variables": environment},
        },
    }


def _rule(target: str) -> dict[str, Any]:
    return {
        "Type": "AWS::Events::Rule",
        "Properties": {
            "EventBusName": {"Ref": "Bus"},
            "EventPattern": {"source": ["test"]},
            "State": "ENABLED",
            "Targets": [{"Id": "Target0", "Arn": {"Fn::GetAtt": [target, "Arn"]}}],
        },
    }


def _job_states() -> dict[str, Any]:
    return {
        "StartAt": "Step",
        "States": {
            "Step": {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke",
                "Parameters": {"FunctionName": "${step}", "Payload.$": "$"},
                "OutputPath": "$.Payload",
                "Catch": [{"ErrorEquals": ["ValueError"], "ResultPath": "$.error", "Next": "Caught"}],
                "Next": "Prepare",
            },
            "Prepare": {
                "Type": "Task",
                "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync",
                "Parameters": {
                    "ProcessingJobName.$": "States.Format('{}-prepare', $.run)",
                    "RoleArn": "arn:aws:iam::123456789012:role/any",
                    "AppSpecification": {
                        "ImageUri": "image",
                        "ContainerEntrypoint": ["python", "-c"],
                        "ContainerArguments.$": "States.Array($.script)",
                    },
                    "Environment": {"WORD": "given"},
                    "ProcessingInputs": [
                        {
                            "InputName": "in",
                            "S3Input": {
                                "S3Uri": "s3://${bucket}/raw/",
                                "LocalPath": "/opt/ml/processing/input/raw",
                            },
                        }
                    ],
                    "ProcessingOutputConfig": {
                        "Outputs": [
                            {
                                "OutputName": "out",
                                "S3Output": {
                                    "S3Uri.$": "States.Format('s3://${bucket}/{}/dataset', $.run)",
                                    "LocalPath": "/opt/ml/processing/output/dataset",
                                },
                            }
                        ]
                    },
                },
                "ResultPath": None,
                "Next": "Train",
            },
            "Train": {
                "Type": "Task",
                "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
                "Parameters": {
                    "TrainingJobName.$": "States.Format('{}-train', $.run)",
                    "RoleArn": "arn:aws:iam::123456789012:role/any",
                    "AlgorithmSpecification": {
                        "TrainingImage": "image",
                        "ContainerEntrypoint": ["python", "-c"],
                        "ContainerArguments.$": "States.Array($.script)",
                    },
                    "HyperParameters": {"depth": "3"},
                    "InputDataConfig": [
                        {
                            "ChannelName": "dataset",
                            "DataSource": {
                                "S3DataSource": {
                                    "S3DataType": "S3Prefix",
                                    "S3Uri.$": "States.Format('s3://${bucket}/{}/dataset', $.run)",
                                }
                            },
                        }
                    ],
                    "OutputDataConfig": {"S3OutputPath": "s3://${bucket}/models"},
                    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
                },
                "Catch": [{"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.error", "Next": "Caught"}],
                "ResultSelector": {
                    "status.$": "$.TrainingJobStatus",
                    "model.$": "$.ModelArtifacts.S3ModelArtifacts",
                },
                "End": True,
            },
            "Caught": {"Type": "Fail", "Error": "Caught", "CausePath": "States.JsonToString($.error)"},
        },
    }


def small_template() -> dict[str, Any]:
    return {
        "Resources": {
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                    "BillingMode": "PAY_PER_REQUEST",
                    "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
                    "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
                },
            },
            "Archive": {
                "Type": "AWS::S3::Bucket",
                "Properties": {"VersioningConfiguration": {"Status": "Enabled"}},
            },
            "Key": {
                "Type": "AWS::SecretsManager::Secret",
                "Properties": {"GenerateSecretString": {"PasswordLength": 40, "ExcludePunctuation": True}},
            },
            "Limit": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {"Name": "/small/limit", "Type": "String", "Value": "7"},
            },
            "Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": "small-bus"}},
            "Letters": {"Type": "AWS::SQS::Queue", "Properties": {}},
            "Queue": {
                "Type": "AWS::SQS::Queue",
                "Properties": {
                    "VisibilityTimeout": 60,
                    "RedrivePolicy": {
                        "deadLetterTargetArn": {"Fn::GetAtt": ["Letters", "Arn"]},
                        "maxReceiveCount": 2,
                    },
                },
            },
            "ToQueue": _rule("Queue"),
            "ToArchive": _rule("Stream"),
            "Stream": {
                "Type": "AWS::KinesisFirehose::DeliveryStream",
                "Properties": {
                    "DeliveryStreamType": "DirectPut",
                    "ExtendedS3DestinationConfiguration": {
                        "BucketARN": {"Fn::GetAtt": ["Archive", "Arn"]},
                        "Prefix": "events/",
                        "CompressionFormat": "GZIP",
                        "BufferingHints": {"IntervalInSeconds": 60, "SizeInMBs": 1},
                        "ProcessingConfiguration": {
                            "Enabled": True,
                            "Processors": [{"Type": "AppendDelimiterToRecord", "Parameters": []}],
                        },
                    },
                },
            },
            "Consume": _function("consume", TABLE={"Ref": "Table"}),
            "Step": _function("step"),
            "Poll": {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {
                    "BatchSize": 50,
                    "EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]},
                    "FunctionName": {"Ref": "Consume"},
                    "FunctionResponseTypes": ["ReportBatchItemFailures"],
                    "ScalingConfig": {"MaximumConcurrency": 2},
                },
            },
            "Role": {"Type": "AWS::IAM::Role", "Properties": {}},
            "Machine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {
                    "DefinitionString": json.dumps(_job_states()),
                    "DefinitionSubstitutions": {
                        "step": {"Fn::GetAtt": ["Step", "Arn"]},
                        "bucket": {"Ref": "Archive"},
                    },
                    "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
                },
            },
        },
        "Outputs": {
            "TableName": {"Value": {"Ref": "Table"}},
            "ArchiveName": {"Value": {"Ref": "Archive"}},
            "QueueUrl": {"Value": {"Ref": "Queue"}},
            "LettersUrl": {"Value": {"Ref": "Letters"}},
            "KeyArn": {"Value": {"Ref": "Key"}},
            "MachineArn": {"Value": {"Ref": "Machine"}},
            "StepName": {"Value": {"Ref": "Step"}},
        },
    }


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
