"""The AWS APIs of one account: moto's server in this process, and a DynamoDB engine in a process of its own."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import string
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.backends import get_backend
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server

from local.assembly.template import ACCOUNT
from local.aws.dynoxide import Dynoxide, supported
from local.aws.eventbridge import Buses, EventBus, InputTemplate, Rule, Target
from local.aws.firehose import DeliveryStream, Destination
from local.aws.message_moves import MessageMoves
from local.aws.moto_patches import Hooks, InvocationResult, MotoPatches
from local.aws.s3 import ObjectMirror
from local.aws.sagemaker_jobs import ContainerJobs
from local.aws.sqs import DurableQueue
from local.aws.table_stream import TableStream
from local.aws.wsgi import AccountApplication
from local.errors import LocalError
from local.state import StateFolder

_TABLE_SETTINGS = (
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "ProvisionedThroughput",
)


_ONE_PER_PROCESS = threading.Lock()  # moto's backends are global to the process


class _Handler(MotoRequestHandler):
    """Keeps connections open, without Nagle's algorithm, which costs 40 ms when head and body are two packets."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: every event is a request."""


class EmbeddedAws:
    """One account in one region. `endpoints` are the environment variables by which an AWS client finds it.

    `invoke` and `knows_function` are the Lambda service's; `code` are the folders on a job's PYTHONPATH.
    """

    def __init__(
        self,
        state: StateFolder,
        region: str,
        invoke: Callable[[str, bytes], InvocationResult],
        knows_function: Callable[[str], bool],
        code: list[Path],
    ) -> None:
        if not _ONE_PER_PROCESS.acquire(blocking=False):
            raise LocalError("this process already runs a local system: close that one first")
        self._state, self.region = state, region
        self.mirror = ObjectMirror(state.folder("s3"), state.journal)
        self.buses = Buses()
        self.streams: dict[str, DeliveryStream] = {}
        self.stacks: dict[str, dict[str, str]] = {}
        self._table_streams: dict[str, Callable[[], TableStream]] = {}
        self._engine: Dynoxide | None = None
        self._clients: dict[str, Any] = {}
        self._clients_lock = threading.Lock()
        logs = state.folder("logs/jobs")
        prefix = f"arn:aws:sagemaker:{region}:{ACCOUNT}"
        self.jobs = ContainerJobs(
            state.folder("jobs"), logs, code, prefix, state.journal, lambda: self, lambda: self.endpoints
        )
        self._moves = MessageMoves(self._queue_by_arn)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        moto_api_backend.reset()
        hooks = Hooks(
            state.journal,
            self.mirror,
            self.buses,
            self.jobs,
            self._moves,
            invoke,
            knows_function,
            self.client,
        )
        self._patches = MotoPatches(hooks)
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", 0, self._application(), threaded=True, request_handler=_Handler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="aws", daemon=True
        )

    def start(self, say: Callable[[str], None]) -> None:
        """Start serving; moto's in-memory tables replace the DynamoDB engine where it is not published."""
        self._thread.start()
        if supported():
            self._engine = Dynoxide(
                self._state.path / "dynamodb.sqlite", self._state.folder("logs") / "dynoxide.log"
            )
        else:
            say("DynamoDB: no engine is published for this platform; using moto's tables (slow, not kept)")

    def _application(self) -> AccountApplication:
        moto = DomainDispatcherApplication(create_backend_app)
        return AccountApplication(moto, self.buses, self._delivery_stream_named, self.stacks)

    def _delivery_stream_named(self, name: str) -> DeliveryStream | None:
        return next((stream for stream in self.streams.values() if stream.name == name), None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def endpoints(self) -> dict[str, str]:
        tables = self._engine.url if self._engine else self.url
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_DYNAMODB": tables,
            "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": tables,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A boto3 client of this account, shared between threads."""
        with self._clients_lock:
            if service not in self._clients:
                self._clients[service] = self._make_client(service)
            return self._clients[service]

    def _make_client(self, service: str) -> Any:
        tables = service in ("dynamodb", "dynamodbstreams")
        config = Config(connect_timeout=60, read_timeout=960, parameter_validation=False)
        if not tables:  # only the state machine retries tasks; the engine's clients retry while it restarts
            config = config.merge(Config(retries={"total_max_attempts": 1}))
        endpoints = self.endpoints
        return boto3.session.Session().client(
            service,  # type: ignore[call-overload] # the stubs want a literal
            region_name=self.region,
            endpoint_url=endpoints["AWS_ENDPOINT_URL_DYNAMODB" if tables else "AWS_ENDPOINT_URL"],
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=config,
        )

    def _backend(self, service: Any, region: str | None = None) -> Any:
        return get_backend(service)[ACCOUNT][region or self.region]

    # Resources

    def table(self, name: str, properties: Mapping[str, Any]) -> str:
        """Create a table if it is missing; returns its stream's ARN in this account, empty without a stream."""
        self._state.remember_shape(f"table {name}", json.dumps(properties["KeySchema"], sort_keys=True))
        client = self.client("dynamodb")
        settings = {key: properties[key] for key in _TABLE_SETTINGS if key in properties}
        if "StreamSpecification" in properties:
            settings["StreamSpecification"] = {"StreamEnabled": True, **properties["StreamSpecification"]}
        with suppress(
            client.exceptions.ResourceInUseException
        ):  # it exists, perhaps from an interrupted start
            client.create_table(TableName=name, **settings)
        expiry = properties.get("TimeToLiveSpecification")
        self._expire(client, name, expiry)
        engine_arn = client.describe_table(TableName=name)["Table"].get("LatestStreamArn")
        return self._remember_stream(name, engine_arn, expiry) if engine_arn else ""

    def _remember_stream(self, table: str, engine_arn: str, expiry: Mapping[str, Any] | None) -> str:
        """Map a stream's ARN in this account to the engine's, which has another account and region."""
        label = engine_arn.partition("/stream/")[2]
        arn = f"arn:aws:dynamodb:{self.region}:{ACCOUNT}:table/{table}/stream/{label}"
        url = self.endpoints["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"]
        attribute = expiry["AttributeName"] if expiry else None
        self._table_streams[arn] = lambda: TableStream(url, engine_arn, arn, attribute)
        return arn

    def table_stream(self, arn: str) -> TableStream:
        """A new reader of a table's stream, by the stream's ARN in this account."""
        return self._table_streams[arn]()

    def _expire(self, client: Any, table: str, wanted: Mapping[str, Any] | None) -> None:
        """Enable TTL, also on an existing table: a kill may have come between creation and this."""
        if wanted and wanted.get("Enabled"):
            description = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
            if description["TimeToLiveStatus"] != "ENABLED":
                client.update_time_to_live(TableName=table, TimeToLiveSpecification=wanted)

    def bucket(self, name: str, properties: Mapping[str, Any]) -> None:
        """Create a bucket with its stored objects."""
        backend = self._backend("s3", "aws")
        backend.create_bucket(name, self.region)
        if properties.get("VersioningConfiguration", {}).get("Status") == "Enabled":
            backend.put_bucket_versioning(name, "Enabled")
        for key, file in self.mirror.contents(name):
            self._patches.put_object(backend, name, key, file.read_bytes())

    def queue(self, name: str, attributes: Mapping[str, str]) -> str:
        """Create a queue with its stored messages; returns its URL."""
        self._backend("sqs").create_queue(name, region=self.region, **_unquoted(attributes))
        return f"{self.url}/{ACCOUNT}/{name}"

    def durable_queue(self, name_or_arn: str) -> DurableQueue:
        """A queue by name or ARN, for use without HTTP."""
        store = self._backend("sqs").get_queue(name_or_arn.rpartition(":")[2]).store
        assert isinstance(store, DurableQueue)
        return store

    def _queue_by_arn(self, arn: str) -> DurableQueue | None:
        queue = self._backend("sqs").queues.get(arn.rpartition(":")[2])
        return None if queue is None else queue.store

    def bus(self, name: str, arn: str) -> None:
        self._backend("events").create_event_bus(name)
        self.buses.add(EventBus(name, arn, ACCOUNT, self.region, self._state.journal))

    def rule(
        self,
        name: str,
        bus: str,
        pattern: Mapping[str, Any],
        targets: list[tuple[str, InputTemplate | None]],
    ) -> None:
        if bus.rsplit("/", 1)[-1] == "default" and self.buses.get(bus) is None:
            self.buses.add(EventBus("default", "", ACCOUNT, self.region, self._state.journal))
        event_bus = self.buses.get(bus)
        assert event_bus is not None
        event_bus.rules.append(
            Rule(name, pattern, tuple(Target(self._sink(arn), template) for arn, template in targets))
        )

    def _sink(self, arn: str) -> DurableQueue | DeliveryStream:
        return self.streams[arn] if arn.split(":")[2] == "firehose" else self.durable_queue(arn)

    def delivery_stream(self, name: str, arn: str, destination: Destination) -> None:
        self.streams[arn] = DeliveryStream(name, destination, self._state.journal, self.put)

    def secret(self, name: str, properties: Mapping[str, Any]) -> str:
        """Create a secret, whose value is generated once and stored; returns its ARN."""
        stored = self._state.journal.rows("SELECT value FROM secrets WHERE name = ?", name)
        value = str(stored[0][0]) if stored else _secret_value(properties)
        backend = self._backend("secretsmanager")
        backend.create_secret(name, value, None, properties.get("Description"), None, None, None, [], False)
        return str(backend.describe_secret(name).arn)

    def parameter(self, name: str, kind: str, value: str) -> None:
        """Create a parameter; a value written through the API earlier takes precedence."""
        stored = self._state.journal.rows("SELECT value FROM parameters WHERE name = ?", name)
        self._put_parameter(name, kind, str(stored[0][0]) if stored else value)

    def restore_parameters(self) -> None:
        """Restore parameters that were written through the API."""
        for name, kind, value in self._state.journal.rows("SELECT name, type, value FROM parameters"):
            self._put_parameter(str(name), str(kind), str(value))

    def _put_parameter(self, name: str, kind: str, value: str) -> None:
        self._backend("ssm").put_parameter(name, "", value, kind, "", "", True, [], "text", "Standard", None)

    def topic(self, name: str) -> str:
        return str(self._backend("sns").create_topic(name).arn)

    def model_packages(self, name: str, description: str) -> str:
        """Create a group of model packages; returns its ARN. It is empty at every start: nothing here reads it."""
        return str(self._backend("sagemaker").create_model_package_group(name, description))

    def state_machine(self, name: str, definition: str, role: str) -> str:
        client = self.client("stepfunctions")
        return str(
            client.create_state_machine(name=name, definition=definition, roleArn=role)["stateMachineArn"]
        )

    # Objects, without HTTP

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Store an object."""
        self._backend("s3", "aws").put_object(bucket, key, content)

    def fetch(self, bucket: str, prefix: str, folder: Path) -> int:
        """Copy the objects under a prefix into a folder, without the prefix; returns their number."""
        count = 0
        for key, file in self.mirror.contents(bucket, prefix):
            relative = key[len(prefix) :].lstrip("/") or key.rsplit("/", 1)[-1]
            if relative.endswith("/"):
                continue
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            count += 1
        return count

    # Ending

    def close(self) -> None:
        """Stop jobs and message moves, deliver buffered records, stop serving."""
        self.jobs.close()
        self._moves.close()
        for stream in self.streams.values():
            stream.close()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for client in self._clients.values():
            client.close()
        self._patches.remove()
        moto_api_backend.reset()
        if self._engine is not None:
            self._engine.close()
        _ONE_PER_PROCESS.release()


def _unquoted(attributes: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: json.loads(text) if name == "RedrivePolicy" else int(text) for name, text in attributes.items()
    }


def _secret_value(properties: Mapping[str, Any]) -> str:
    """The template's value, or one generated by GenerateSecretString."""
    wanted = properties.get("GenerateSecretString")
    if wanted is None:
        return str(properties.get("SecretString", ""))
    excluded = set(wanted.get("ExcludeCharacters", ""))
    alphabet = string.ascii_letters + string.digits
    if not wanted.get("ExcludePunctuation"):
        alphabet += string.punctuation
    letters = [letter for letter in alphabet if letter not in excluded]
    value = "".join(secrets.choice(letters) for _ in range(int(wanted.get("PasswordLength", 32))))
    if "GenerateStringKey" in wanted:
        return json.dumps(
            {**json.loads(wanted.get("SecretStringTemplate", "{}")), wanted["GenerateStringKey"]: value}
        )
    return value
