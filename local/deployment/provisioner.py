"""Creating a stack's resources: one method per resource type, and the types that are only acknowledged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from local.apigateway.rest_api import MockIntegration
from local.assembly.template import Resolver, Resource, Stack
from local.aws.eventbridge import InputTemplate
from local.aws.firehose import Destination
from local.errors import TemplateError, UnknownResource

ACKNOWLEDGED: dict[str, str] = {
    "AWS::ApiGateway::Account": "logging role of the account",
    "AWS::ApiGateway::Deployment": "the declared routes are served at once",
    "AWS::ApiGateway::Stage": "throttles, logs and traces of the stage are not simulated",
    "AWS::ApiGateway::UsagePlan": "a merchant's throttle and quota are not simulated",
    "AWS::Athena::NamedQuery": "`candor sql` queries the same tables",
    "AWS::Athena::WorkGroup": "`candor sql` queries the same tables",
    "AWS::CDK::Metadata": "usage statistics",
    "AWS::CloudWatch::Alarm": "nothing is measured",
    "AWS::CloudWatch::CompositeAlarm": "nothing is measured",
    "AWS::CloudWatch::Dashboard": "nothing is measured",
    "AWS::ECR::Repository": "jobs run with this Python instead of an image",
    "AWS::EMRServerless::Application": "`candor dataset build --engine spark` runs Spark on this machine",
    "AWS::Events::EventBusPolicy": "permissions are not enforced",
    "AWS::Glue::Database": "`candor sql` reads the same tables",
    "AWS::Glue::Table": "`candor sql` reads the same tables",
    "AWS::IAM::ManagedPolicy": "permissions are not enforced",
    "AWS::IAM::Policy": "permissions are not enforced",
    "AWS::IAM::Role": "permissions are not enforced",
    "AWS::KMS::Alias": "nothing is encrypted at rest",
    "AWS::KMS::Key": "nothing is encrypted at rest",
    "AWS::Lambda::Permission": "permissions are not enforced",
    "AWS::Logs::LogGroup": "logs are files in the state folder",
    "AWS::Logs::LogStream": "logs are files in the state folder",
    "AWS::S3::BucketPolicy": "permissions are not enforced",
    "AWS::Scheduler::Schedule": "scheduled targets are started by hand",
    "AWS::SNS::Subscription": "no notification is sent",
    "AWS::SNS::TopicPolicy": "permissions are not enforced",
    "AWS::SQS::QueuePolicy": "permissions are not enforced",
    "AWS::SecretsManager::ResourcePolicy": "permissions are not enforced",
}
"""Resource types that get a physical id and are not run, each with the reason."""

_CONCURRENCY = 4


class Services(Protocol):
    """The operations of the running system that the provisioner uses."""

    def table(self, name: str, properties: Mapping[str, Any]) -> str:
        """Create or find a table; its stream's ARN, empty without a stream."""

    def bucket(self, name: str, properties: Mapping[str, Any]) -> None: ...
    def queue(self, name: str, attributes: Mapping[str, str]) -> str:
        """Create a queue; its URL."""

    def bus(self, name: str, arn: str) -> None: ...
    def rule(
        self,
        name: str,
        bus: str,
        pattern: Mapping[str, Any],
        targets: list[tuple[str, InputTemplate | None]],
    ) -> None:
        """Create a rule; targets are (ARN, input template)."""

    def delivery_stream(self, name: str, arn: str, destination: Destination) -> None: ...
    def function(self, name: str, properties: Mapping[str, Any], code: Path, layers: list[Path]) -> None: ...
    def event_source(self, source_arn: str, function: str, properties: Mapping[str, Any]) -> None:
        """Poll a queue or a table's stream, by its ARN, for a function."""

    def secret(self, name: str, properties: Mapping[str, Any]) -> str:
        """Create or restore a secret; its ARN."""

    def parameter(self, name: str, kind: str, value: str) -> None: ...
    def topic(self, name: str) -> str:
        """Create a topic; its ARN."""

    def model_packages(self, name: str, description: str) -> str:
        """Create a group of model packages; its ARN."""

    def state_machine(self, name: str, definition: str, role: str) -> str:
        """Create a state machine; its ARN."""

    def api_part(self, api: str, kind: str, logical_id: str, properties: Mapping[str, Any]) -> None:
        """Collect a part of a REST API: kind "api", "method", "authorizer" or "response"."""


class Provisioner:
    """Creates the resources of one stack, each after those it refers to."""

    def __init__(self, stack: Stack, services: Services, exports: dict[str, Any]) -> None:
        self._stack, self._services, self._exports = stack, services, exports
        self._done: dict[str, Resource] = {}
        self._open: list[str] = []
        self._resolver = Resolver(stack, exports, self._resource)
        self._layers: dict[str, Path] = {}
        self._paths: dict[str, str] = {}

    @staticmethod
    def check(stack: Stack) -> None:
        """Raise UnknownResource for a type that is neither run nor acknowledged."""
        for logical_id, declared in stack.resources.items():
            kind = declared["Type"]
            if kind not in Provisioner.KNOWN and kind not in ACKNOWLEDGED:
                raise UnknownResource(kind, logical_id, stack.name)

    def start(self) -> dict[str, Any]:
        """Create all resources; returns the outputs by logical id and adds the exports to those of earlier stacks."""
        for logical_id, declared in self._stack.resources.items():
            if self._resolver.included(declared):
                self._resource(logical_id)
        outputs: dict[str, Any] = {}
        for name, declared in self._stack.template.get("Outputs", {}).items():
            if self._resolver.included(declared):
                outputs[name] = self._resolver.value(declared["Value"])
                if "Export" in declared:
                    self._exports[self._resolver.value(declared["Export"]["Name"])] = outputs[name]
        return outputs

    def _resource(self, logical_id: str) -> Resource:
        if logical_id in self._done:
            return self._done[logical_id]
        declared = self._stack.resources.get(logical_id)
        if declared is None:
            raise TemplateError(f"stack {self._stack.name} refers to {logical_id}, which it does not declare")
        if logical_id in self._open:
            circle = " -> ".join([*self._open[self._open.index(logical_id) :], logical_id])
            raise TemplateError(f"stack {self._stack.name} has a cycle of references: {circle}")
        self._open.append(logical_id)
        resource = self._create(logical_id, declared)
        self._open.pop()
        self._done[logical_id] = resource
        return resource

    def _create(self, logical_id: str, declared: Mapping[str, Any]) -> Resource:
        kind = declared["Type"]
        if kind in ACKNOWLEDGED:
            return self._acknowledged(logical_id, kind, declared.get("Properties", {}))
        if kind not in self.KNOWN:
            raise UnknownResource(kind, logical_id, self._stack.name)
        return self.KNOWN[kind](self, logical_id, self._resolver.value(declared.get("Properties", {})))

    def _refuse(self, logical_id: str, detail: str) -> UnknownResource:
        return UnknownResource(
            self._stack.resources[logical_id]["Type"], logical_id, self._stack.name, detail
        )

    def _name(self, logical_id: str, declared: Any = None, limit: int = 80) -> str:
        """The declared name, or a generated one that is stable across starts, so that stored content matches."""
        return str(declared) if declared else f"{self._stack.name}-{logical_id}"[-limit:].lstrip("-")

    def _arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self._stack.region}:{self._stack.account}:{resource}"

    def _acknowledged(self, logical_id: str, kind: str, properties: Mapping[str, Any]) -> Resource:
        literal = {key: value for key, value in properties.items() if isinstance(value, str)}
        named = literal.get("RoleName") or literal.get("LogGroupName") or literal.get("StageName")
        name = self._name(logical_id, named)
        service, noun = kind.split("::")[1].lower(), kind.split("::")[2].lower()
        arns = {
            "AWS::IAM::Role": f"arn:aws:iam::{self._stack.account}:role/{name}",
            "AWS::Logs::LogGroup": self._arn("logs", f"log-group:{name}:*"),
            "AWS::ECR::Repository": self._arn("ecr", f"repository/{name.lower()}"),
        }
        arn = arns.get(kind, self._arn(service, f"{noun}/{name}"))
        return Resource(name, {"Arn": arn, "ApplicationId": name, "KeyId": name, "RoleId": name})

    # Storage

    def _table(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        name = self._name(logical_id, properties.get("TableName"))
        stream = self._services.table(name, properties)
        return Resource(name, {"Arn": self._arn("dynamodb", f"table/{name}"), "StreamArn": stream})

    def _bucket(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        name = self._name(logical_id, properties.get("BucketName"), 63).lower()
        self._services.bucket(name, properties)
        domain = f"{name}.s3.{self._stack.region}.amazonaws.com"
        attributes = {"Arn": f"arn:aws:s3:::{name}", "DomainName": domain, "RegionalDomainName": domain}
        return Resource(name, attributes)

    def _secret(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        arn = self._services.secret(self._name(logical_id, properties.get("Name")), properties)
        return Resource(arn, {"Id": arn})

    def _parameter(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        name = properties.get("Name") or f"/{self._name(logical_id)}"
        self._services.parameter(name, properties["Type"], str(properties["Value"]))
        return Resource(name, {"Type": properties["Type"], "Value": properties["Value"]})

    # Events

    def _queue(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        if properties.get("FifoQueue"):
            raise self._refuse(logical_id, "FIFO order is not simulated")
        name = self._name(logical_id, properties.get("QueueName"))
        plain = (
            "VisibilityTimeout",
            "DelaySeconds",
            "MessageRetentionPeriod",
            "ReceiveMessageWaitTimeSeconds",
        )
        attributes = {key: str(properties[key]) for key in plain if key in properties}
        if "RedrivePolicy" in properties:
            attributes["RedrivePolicy"] = json.dumps(properties["RedrivePolicy"])
        url = self._services.queue(name, attributes)
        return Resource(url, {"Arn": self._arn("sqs", name), "QueueName": name, "QueueUrl": url})

    def _event_bus(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        name = self._name(logical_id, properties.get("Name"))
        arn = self._arn("events", f"event-bus/{name}")
        self._services.bus(name, arn)
        return Resource(name, {"Arn": arn, "Name": name})

    def _rule(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        if "ScheduleExpression" in properties:
            raise self._refuse(logical_id, "schedules are not run")
        name = self._name(logical_id, properties.get("Name"), 64)
        bus = str(properties.get("EventBusName", "default"))
        targets = [self._target(logical_id, target) for target in properties.get("Targets", [])]
        if properties.get("State", "ENABLED") != "DISABLED":
            self._services.rule(name, bus, properties["EventPattern"], targets)
        return Resource(f"{bus}|{name}", {"Arn": self._arn("events", f"rule/{bus}/{name}")})

    def _target(self, logical_id: str, target: Mapping[str, Any]) -> tuple[str, InputTemplate | None]:
        if str(target["Arn"]).split(":")[2] not in ("sqs", "firehose"):
            raise self._refuse(
                logical_id, f"its target {target['Arn']} is neither a queue nor a delivery stream"
            )
        transformer = target.get("InputTransformer", {})
        if "Input" in target or "InputPath" in target or transformer.get("InputPathsMap"):
            raise self._refuse(logical_id, "only input templates around the whole event are supported")
        template = transformer.get("InputTemplate")
        try:
            return target["Arn"], None if template is None else InputTemplate(template)
        except ValueError as error:
            raise self._refuse(logical_id, str(error)) from None

    def _delivery_stream(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        settings = properties.get("ExtendedS3DestinationConfiguration")
        if settings is None or properties.get("DeliveryStreamType", "DirectPut") != "DirectPut":
            raise self._refuse(logical_id, "only direct put to an extended S3 destination is supported")
        name = self._name(logical_id, properties.get("DeliveryStreamName"), 64)
        arn = self._arn("firehose", f"deliverystream/{name}")
        self._services.delivery_stream(name, arn, self._destination(logical_id, settings))
        return Resource(name, {"Arn": arn})

    def _destination(self, logical_id: str, settings: Mapping[str, Any]) -> Destination:
        processing = settings.get("ProcessingConfiguration", {})
        processors = processing.get("Processors", []) if processing.get("Enabled") else []
        if {processor["Type"] for processor in processors} - {"AppendDelimiterToRecord"}:
            raise self._refuse(logical_id, "the only processor supported is AppendDelimiterToRecord")
        if settings.get("DynamicPartitioningConfiguration", {}).get("Enabled"):
            raise self._refuse(logical_id, "dynamic partitioning is not supported")
        if settings.get("DataFormatConversionConfiguration", {}).get("Enabled"):
            raise self._refuse(logical_id, "format conversion is not supported")
        compression = settings.get("CompressionFormat", "UNCOMPRESSED")
        if compression not in ("GZIP", "UNCOMPRESSED"):
            raise self._refuse(logical_id, f"compression {compression} is not supported")
        hints = settings.get("BufferingHints", {})
        return Destination(
            bucket=settings["BucketARN"].rpartition(":")[2],
            prefix=settings.get("Prefix", ""),
            compressed=compression == "GZIP",
            delimiter=b"\n" if processors else b"",
            interval_s=float(hints.get("IntervalInSeconds", 300)),
            size=int(hints.get("SizeInMBs", 5)) << 20,
        )

    def _topic(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        name = self._name(logical_id, properties.get("TopicName"))
        arn = self._services.topic(name)
        return Resource(arn, {"TopicArn": arn, "TopicName": name})

    def _model_packages(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        name = self._name(logical_id, properties.get("ModelPackageGroupName"), 63)
        arn = self._services.model_packages(name, str(properties.get("ModelPackageGroupDescription", "")))
        return Resource(arn, {"ModelPackageGroupArn": arn, "ModelPackageGroupStatus": "Completed"})

    # Functions

    def _layer(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        arn = self._arn("lambda", f"layer:{self._name(logical_id)}:1")
        self._layers[arn] = self._asset(properties["Content"])
        return Resource(arn)

    def _asset(self, content: Mapping[str, Any]) -> Path:
        key = content.get("S3Key")
        if key not in self._stack.assets:
            raise TemplateError(f"stack {self._stack.name} has no asset {key}: run `make synth`")
        return self._stack.assets[str(key)]

    def _function(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        if not str(properties.get("Runtime", "")).startswith("python"):
            raise self._refuse(
                logical_id, f"runtime {properties.get('Runtime', 'of an image')} is not supported"
            )
        name = self._name(logical_id, properties.get("FunctionName"), 64)
        layers = [self._layers[arn] for arn in properties.get("Layers", [])]
        self._services.function(name, properties, self._asset(properties["Code"]), layers)
        return Resource(name, {"Arn": self._arn("lambda", f"function:{name}")})

    def _version(self, _logical_id: str, properties: dict[str, Any]) -> Resource:
        name = function_name(properties["FunctionName"])
        return Resource(self._arn("lambda", f"function:{name}:1"), {"Version": "1"})

    def _alias(self, _logical_id: str, properties: dict[str, Any]) -> Resource:
        arn = self._arn(
            "lambda", f"function:{function_name(properties['FunctionName'])}:{properties['Name']}"
        )
        return Resource(arn, {"AliasArn": arn})

    def _event_source(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        source = str(properties["EventSourceArn"])
        if source.split(":")[2] == "dynamodb":
            self._check_stream_mapping(logical_id, properties)
        elif source.split(":")[2] != "sqs":
            raise self._refuse(logical_id, "only queues and tables' streams are polled")
        elif "FilterCriteria" in properties:
            raise self._refuse(logical_id, "a queue's messages are not filtered")
        if properties.get("Enabled", True):
            self._services.event_source(source, function_name(properties["FunctionName"]), properties)
        return Resource(self._name(logical_id), {"Id": self._name(logical_id)})

    def _check_stream_mapping(self, logical_id: str, properties: Mapping[str, Any]) -> None:
        if properties.get("StartingPosition") != "TRIM_HORIZON":
            raise self._refuse(logical_id, "a stream is read from TRIM_HORIZON on only")
        if properties.get("ParallelizationFactor", 1) != 1 or properties.get("TumblingWindowInSeconds"):
            raise self._refuse(logical_id, "a stream is read one batch at a time, without tumbling windows")
        failed = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        if failed is not None and str(failed).split(":")[2] != "sqs":
            raise self._refuse(logical_id, f"its on-failure destination {failed} is not a queue")

    def _state_machine(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        definition = properties.get("DefinitionString") or json.dumps(properties.get("Definition") or {})
        for placeholder, value in properties.get("DefinitionSubstitutions", {}).items():
            definition = definition.replace(f"${{{placeholder}}}", str(value))
        if '"QueryLanguage":"JSONata"' in re.sub(r"\s", "", definition):
            raise self._refuse(logical_id, "JSONata is not supported, use JSONPath")
        name = self._name(logical_id, properties.get("StateMachineName"))
        arn = self._services.state_machine(name, definition, properties["RoleArn"])
        return Resource(arn, {"Arn": arn, "Name": name})

    # API

    def _rest_api(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        if "Body" in properties or "BodyS3Location" in properties:
            raise self._refuse(logical_id, "routes are read from resources and methods, not from a body")
        api = logical_id.lower()[-10:]
        self._paths[f"{api}-root"] = ""
        self._services.api_part(api, "api", logical_id, properties)
        return Resource(api, {"RootResourceId": f"{api}-root"})

    def _path(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        self._paths[logical_id] = f"{self._paths[properties['ParentId']]}/{properties['PathPart']}"
        return Resource(logical_id, {"ResourceId": logical_id})

    def _method(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        kind = properties.get("Integration", {}).get("Type")
        if kind not in ("AWS_PROXY", "MOCK"):
            raise self._refuse(logical_id, "only Lambda proxy and mock integrations are supported")
        if kind == "MOCK":
            try:
                MockIntegration.of_template(properties)
            except ValueError as error:
                raise self._refuse(logical_id, str(error)) from None
        path = self._paths[properties["ResourceId"]] or "/"
        self._services.api_part(properties["RestApiId"], "method", logical_id, {**properties, "Path": path})
        return Resource(logical_id)

    def _authorizer(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        self._services.api_part(properties["RestApiId"], "authorizer", logical_id, properties)
        return Resource(logical_id, {"AuthorizerId": logical_id})

    def _gateway_response(self, logical_id: str, properties: dict[str, Any]) -> Resource:
        self._services.api_part(properties["RestApiId"], "response", logical_id, properties)
        return Resource(logical_id, {"Id": logical_id})

    KNOWN: ClassVar[dict[str, Callable[[Any, str, dict[str, Any]], Resource]]] = {
        "AWS::ApiGateway::Authorizer": _authorizer,
        "AWS::ApiGateway::GatewayResponse": _gateway_response,
        "AWS::ApiGateway::Method": _method,
        "AWS::ApiGateway::Resource": _path,
        "AWS::ApiGateway::RestApi": _rest_api,
        "AWS::DynamoDB::Table": _table,
        "AWS::Events::EventBus": _event_bus,
        "AWS::Events::Rule": _rule,
        "AWS::KinesisFirehose::DeliveryStream": _delivery_stream,
        "AWS::Lambda::Alias": _alias,
        "AWS::Lambda::EventSourceMapping": _event_source,
        "AWS::Lambda::Function": _function,
        "AWS::Lambda::LayerVersion": _layer,
        "AWS::Lambda::Version": _version,
        "AWS::S3::Bucket": _bucket,
        "AWS::SNS::Topic": _topic,
        "AWS::SQS::Queue": _queue,
        "AWS::SSM::Parameter": _parameter,
        "AWS::SageMaker::ModelPackageGroup": _model_packages,
        "AWS::SecretsManager::Secret": _secret,
        "AWS::StepFunctions::StateMachine": _state_machine,
    }


def function_name(reference: str) -> str:
    """The name of a function from its name, ARN (qualified or not) or integration URI."""
    qualified = reference.rpartition(":function:")[2] or reference
    return qualified.partition("/")[0].partition(":")[0]
