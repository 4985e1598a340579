"""The acknowledged cdk-nag findings, each with its reason. Any other finding stops the synthesis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import aws_cdk as cdk
from constructs import IConstruct

from stacks.settings import StageSettings

_TRACES = "X-Ray's two write actions and the guard's GetMetricData support no resource-level permissions"
_RUNTIME = "Deploys Python 3.13, the version of the tests; both are upgraded together"
_OBJECTS = "The objects under one prefix of one bucket, and only the actions that the role needs"
_INVOKE = "Step Functions calls the function by its ARN; CDK also names its versions, of the same code"
_OWN_JOBS = "Jobs are named after their run; only this stage's prefix is covered"
_KEYS_NOT_USERS = "Callers are merchants' servers with keys, checked by our authoriser; there is no user pool"
_OF_THE_GATEWAY = "A constant answer of the gateway itself: it runs no code and reads no data"
_SIGNED = "The lender's own services sign with IAM, not as users"
_NO_RECOVERY = "This stage's data can be reloaded; stages that retain data enable recovery"


class Acknowledged(NamedTuple):
    """One finding: the construct's path, the rule (without its pack), the reason."""

    path: str
    rule: str
    reason: str


_FUNCTIONS = {
    "ingestion": ("UpdateFeatures",),
    "history": (
        "LogCommits",
        "PublishDecisions",
        "ScoreShadows",
        "Healing/IndexArchive",
        "Healing/HealFeatures",
    ),
    "serving": ("Score", "Authorize", "PublishEvents", "ShowDecision", "ShowRecord"),
    "training": ("PrepareTraining", "RegisterModel", "PromoteModel", "GuardModels"),
}

_RUNS = {
    "training/Retrain/Role": ("processing", "training"),
    "training/PrepareTrainingRole": ("processing", "training"),
    "training/Rescore/Role": ("processing",),
}
"""Roles that may run or describe jobs, and the kinds of jobs."""

_FIXED = (
    Acknowledged(
        "storage/DecisionKey",
        "SMG4",
        "The key derives decision ids: after a rotation an old Idempotency-Key would be decided again",
    ),
    Acknowledged("ingestion/Undelivered", "SQS3", "It is the dead-letter queue of the bus's rules"),
    Acknowledged("history/StreamsDlq", "SQS3", "It is the dead-letter queue of the tables' streams"),
    Acknowledged(
        "serving/Api", "APIG2", "The contract in code validates bodies, here and locally, and names the field"
    ),
    Acknowledged(
        "serving/Api/CloudWatchRole",
        "IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs]",
        "API Gateway's account role for its logs, which AWS documents with this policy",
    ),
    Acknowledged("serving/Api/Default/v1/decisions/POST", "COG4", _KEYS_NOT_USERS),
    Acknowledged("serving/Api/Default/v1/decisions/{{id}}/GET", "COG4", _KEYS_NOT_USERS),
    Acknowledged("serving/Api/Default/v1/events/POST", "COG4", _SIGNED),
    Acknowledged("serving/Api/Default/internal/decisions/{{id}}/GET", "COG4", _SIGNED),
    *(
        Acknowledged(f"serving/Api/Default/{method}", rule, _OF_THE_GATEWAY)
        for method in (
            "health/GET",
            "health/ANY",
            "v1/decisions/ANY",
            "v1/decisions/{{id}}/ANY",
            "v1/events/ANY",
            "internal/decisions/{{id}}/ANY",
        )
        for rule in ("APIG4", "COG4")
    ),
    Acknowledged(
        "serving/Api/DeploymentStage.{stage}",
        "APIG3",
        "Callers have keys and the stage is throttled; a firewall's false positive would reject a checkout",
    ),
    Acknowledged(
        "training/Jobs/Role", "IAM5[Resource::*]", "Image login, and metrics restricted by namespace"
    ),
    Acknowledged(
        "training/Jobs/Role",
        "IAM5[Resource::arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:/aws/sagemaker/*]",
        "SageMaker names the log groups of its jobs itself",
    ),
    Acknowledged("training/Spark/Role", "IAM5[Resource::*]", "EMR finds its log group by listing log groups"),
    Acknowledged(
        "observability/ModelMonitor/JobRole",
        "IAM5[Resource::*]",
        "Image login, and metrics restricted by namespace",
    ),
    Acknowledged(
        "observability/ModelMonitor/JobRole",
        "IAM5[Resource::arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:/aws/sagemaker/*]",
        "SageMaker names the log groups of its jobs itself",
    ),
    Acknowledged(
        "observability/ModelMonitor/StarterRole",
        "IAM5[Resource::arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:"
        "processing-job/candor-{stage}-monitor-*]",
        "Jobs are named by the schedule's execution; only this report's prefix is covered",
    ),
    Acknowledged(
        "training/Retrain/Role",
        "IAM5[Resource::*]",
        "Log delivery and X-Ray support no resource-level permissions",
    ),
    Acknowledged("training/Retrain/Role", "IAM5[Resource::<PrepareTraining0AF988E3.Arn>:*]", _INVOKE),
    Acknowledged("training/Retrain/Role", "IAM5[Resource::<RegisterModel49B8E918.Arn>:*]", _INVOKE),
    *(
        Acknowledged(
            role,
            "IAM5[Resource::arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:"
            f"{kind}-job/candor-{{stage}}-*]",
            _OWN_JOBS,
        )
        for role, kinds in _RUNS.items()
        for kind in kinds
    ),
    Acknowledged(
        "training/Rescore/Role",
        "IAM5[Resource::*]",
        "Log delivery and X-Ray support no resource-level permissions",
    ),
    *(
        Acknowledged(
            "training/Rescore/DistributedMapPolicy",
            "IAM5[Resource::arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:"
            f'{{"Fn::Select":[6,{{"Fn::Split":[":",{{"Ref":"Rescore9827463B"}}]}}]}}{end}]',
            "A distributed map starts executions of its own machine, which Step Functions names",
        )
        for end in (":*", "/*:*")
    ),
    Acknowledged(
        "training/RegisterModelRole",
        "IAM5[Resource::arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:"
        "model-package/candor-{stage}/*]",
        "Versions are numbered by SageMaker; only this stage's group is covered",
    ),
)

# cdk-nag names the export, which follows from the bucket's logical id; a test pins it.
_ARCHIVE = "candor-{stage}-storage:ExportsOutputFnGetAttArchiveDA4CB258ArnBE8F3792"
_BUNDLES = "candor-{stage}-storage:ExportsOutputFnGetAttBundles3FB864E8ArnBFC9039D"
_TRAINING = "candor-{stage}-storage:ExportsOutputFnGetAttTraining1DBE9C16Arn863F5C88"

_OBJECT_GRANTS = (
    ("ingestion/Archive/Role", f"{_ARCHIVE}/events/*"),
    ("ingestion/Archive/Role", f"{_ARCHIVE}/undelivered/*"),
    ("history/Commits/Role", f"{_ARCHIVE}/commits/*"),
    ("history/Commits/Role", f"{_ARCHIVE}/undelivered/*"),
    ("history/Decisions/Role", f"{_ARCHIVE}/decisions/*"),
    ("history/Decisions/Role", f"{_ARCHIVE}/undelivered/*"),
    ("history/Shadows/Role", f"{_ARCHIVE}/shadows/*"),
    ("history/Shadows/Role", f"{_ARCHIVE}/undelivered/*"),
    ("history/ScoreShadowsRole", f"{_BUNDLES}/bundles/*"),
    *(
        (f"history/Healing/{name}Role", f"{_ARCHIVE}/{prefix}/*")
        for name in ("IndexArchive", "HealFeatures")
        for prefix in ("commits", "events", "index")
    ),
    ("serving/ScoreRole", f"{_BUNDLES}/bundles/*"),
    ("training/RegisterModelRole", f"{_BUNDLES}/bundles/*"),
    ("training/RegisterModelRole", f"{_TRAINING}/runs/*"),
    ("training/PrepareTrainingRole", f"{_BUNDLES}/bundles/*"),
    ("training/PrepareTrainingRole", f"{_BUNDLES}/policies/*"),
    ("training/PrepareTrainingRole", f"{_TRAINING}/runs/*"),
    ("training/PromoteModelRole", f"{_BUNDLES}/bundles/*"),
    ("training/Jobs/Role", f"{_ARCHIVE}/events/*"),
    ("training/Jobs/Role", f"{_TRAINING}/runs/*"),
    ("observability/ModelMonitor/JobRole", f"{_ARCHIVE}/events/*"),
    ("observability/ModelMonitor/JobRole", f"{_ARCHIVE}/decisions/*"),
    ("observability/ModelMonitor/JobRole", f"{_BUNDLES}/bundles/*"),
    ("observability/ModelMonitor/JobRole", f"{_TRAINING}/runs/*"),
    ("observability/ModelMonitor/JobRole", f"{_TRAINING}/monitoring/*"),
    ("training/Jobs/Role", f"{_ARCHIVE}/decisions/*"),
    ("training/Jobs/Role", f"{_TRAINING}/rescored/*"),
    ("training/Spark/Role", f"{_ARCHIVE}/events/*"),
    ("training/Spark/Role", f"{_ARCHIVE}/decisions/*"),
    ("training/Spark/Role", f"{_TRAINING}/spark/*"),
    ("training/Spark/Role", f"{_TRAINING}/runs/*"),
)


def acknowledged(settings: StageSettings) -> Iterator[Acknowledged]:
    """The acknowledged findings of this stage."""
    yield from _FIXED
    for path, resource in _OBJECT_GRANTS:
        yield Acknowledged(path, f"IAM5[Resource::{resource}]", _OBJECTS)
    for unit, names in _FUNCTIONS.items():
        for name in names:
            yield Acknowledged(f"{unit}/{name}", "L1", _RUNTIME)
            yield Acknowledged(f"{unit}/{name}Role", "IAM5[Resource::*]", _TRACES)
    if not settings.point_in_time_recovery:
        for table in ("Features", "SynchronousFeatures", "Decisions", "Registry", "Merchants"):
            yield Acknowledged(f"storage/{table}", "DDB3", _NO_RECOVERY)
    if settings.promotion == "policy":
        rule = "IAM5[Resource::<PromoteModelDC917CB5.Arn>:*]"
        yield Acknowledged("training/Retrain/Role", rule, _INVOKE)


def acknowledge(app: cdk.App, settings: StageSettings) -> None:
    """Record each acknowledgement on its construct; fails when the construct does not exist."""
    for path, rule, reason in acknowledged(settings):
        construct: IConstruct = app
        for step in f"candor-{settings.stage}-{path.format(stage=settings.stage)}".split("/"):
            construct = construct.node.find_child(step)
        name = f"AwsSolutions::AwsSolutions-{rule.replace('{stage}', settings.stage)}"
        cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=name, reason=reason))
