"""The private functions of moto 5.2.5 that the local system replaces, each with its expected signature.

`tests/local/test_moto_patches.py` checks the list against the installed moto. An upgrade of moto starts here.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import moto.awslambda.models
import moto.events.models
import moto.s3.models
import moto.sagemaker.responses
import moto.secretsmanager.models
import moto.sqs.models
import moto.sqs.responses
import moto.ssm.models
from moto.awslambda.exceptions import UnknownFunctionException
from moto.core.config import default_user_config
from moto.core.responses import ActionResult
from moto.events.exceptions import ValidationException
from moto.sagemaker.exceptions import ResourceInUseException as ResourceInUse
from moto.sagemaker.exceptions import ValidationError
from moto.sqs.exceptions import ReceiptHandleIsInvalid

from local.aws.eventbridge import Buses
from local.aws.message_moves import MessageMoves
from local.aws.moto_queue import MotoQueue, MoveResponses, as_moto
from local.aws.s3 import ObjectMirror
from local.aws.sagemaker_jobs import ContainerJobs, JobExists, UnknownJob
from local.aws.sqs import UnknownReceipt
from local.state import Journal

VERSION = "5.2.5"


class InvocationResult(Protocol):
    """The result of an invocation."""

    @property
    def payload(self) -> bytes: ...
    @property
    def error(self) -> str | None: ...


Invoke = Callable[[str, bytes], InvocationResult]


@dataclass(frozen=True)
class PatchPoint:
    """A private function of moto: `path` as module:attribute, and its expected parameters."""

    path: str
    parameters: tuple[str, ...]

    def owner(self) -> tuple[Any, str]:
        module, _, attribute = self.path.partition(":")
        *parents, name = attribute.split(".")
        owner: Any = importlib.import_module(module)
        for parent in parents:
            owner = getattr(owner, parent)
        return owner, name

    def mismatch(self) -> str | None:
        """The difference of the installed moto from this expectation; None without one."""
        owner, name = self.owner()
        function = getattr(owner, name, None)
        if function is None:
            return f"{self.path} is gone"
        actual = tuple(inspect.signature(function).parameters)
        return (
            None if actual == self.parameters else f"{self.path} takes {actual}, expected {self.parameters}"
        )


def _points(module: str, text: str) -> list[PatchPoint]:
    lines = (line.split() for line in text.strip().splitlines())
    return [PatchPoint(f"{module}:{name}", tuple(parameters)) for name, *parameters in lines]


_TASKS = "moto.stepfunctions.parser.asl.component.state.exec.state_task.state_task_factory"

PATCH_POINTS: tuple[PatchPoint, ...] = (
    *_points(
        "moto.sqs.models",
        """
        Queue name region account_id kwargs
        SQSBackend.receive_message self queue_name count wait_seconds_timeout visibility_timeout message_attribute_names
        SQSBackend.change_message_visibility self queue_name receipt_handle visibility_timeout
        SQSBackend.purge_queue self queue_name
        """,
    ),
    *_points("moto.events.models", "EventsBackend.put_events self events"),
    *_points(
        "moto.s3.models",
        """
        S3Backend.put_object self bucket_name key_name value storage etag multipart encryption kms_key_id \
bucket_key_enabled lock_mode lock_legal_status lock_until checksum_value request_method disable_notification
        S3Backend.delete_object self bucket_name key_name version_id bypass
        """,
    ),
    *_points(
        "moto.secretsmanager.models",
        "SecretsManagerBackend._add_secret self secret_id secret_string secret_binary description tags kms_key_id "
        "version_id version_stages replica_regions force_overwrite",
    ),
    *_points(
        "moto.ssm.models",
        """
        SimpleSystemManagerBackend.put_parameter self name description value parameter_type allowed_pattern keyid \
overwrite tags data_type tier policies
        SimpleSystemManagerBackend.delete_parameter self name
        """,
    ),
    *_points(
        "moto.awslambda.models",
        "LambdaBackend.invoke self function_name qualifier body headers response_headers",
    ),
    *_points(
        "moto.sagemaker.responses",
        """
        SageMakerResponse.create_training_job self
        SageMakerResponse.describe_training_job self
        SageMakerResponse.create_processing_job self
        SageMakerResponse.describe_processing_job self
        """,
    ),
    *_points(_TASKS, "state_task_service_for service_name"),
    *_points(
        "moto.stepfunctions.parser.models",
        "StepFunctionsParserBackend.start_execution self state_machine_arn name execution_input trace_header",
    ),
    *_points(
        "moto.stepfunctions.parser.asl.utils.boto_client", "boto_client_for region service state_credentials"
    ),
)


@dataclass
class Hooks:
    """The objects that patched functions call. `client` creates a boto3 client for a service."""

    journal: Journal
    mirror: ObjectMirror
    buses: Buses
    jobs: ContainerJobs
    moves: MessageMoves
    invoke: Invoke
    knows_function: Callable[[str], bool]
    client: Callable[[str], Any]


class MotoPatches:
    """The installed patches; `remove` restores moto."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._undo: list[Callable[[], None]] = []
        self.put_object = moto.s3.models.S3Backend.put_object
        default_user_config["stepfunctions"]["execute_state_machine"] = True
        self._install()

    def _install(self) -> None:
        self._queues()
        self._events()
        self._objects()
        self._secrets()
        self._parameters()
        self._functions()
        self._jobs()
        self._tasks()

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        original = getattr(owner, name)
        self._undo.append(lambda: setattr(owner, name, original))
        setattr(owner, name, value)

    def _add(self, owner: Any, name: str, value: Any) -> None:
        """Add what moto lacks; an upgrade that has it fails here."""
        assert not hasattr(owner, name), f"moto has {name} of its own: remove ours"
        self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, value)

    def remove(self) -> None:
        while self._undo:
            self._undo.pop()()
        default_user_config["stepfunctions"]["execute_state_machine"] = False

    def _queues(self) -> None:
        models = moto.sqs.models
        journal = self._hooks.journal

        def make(name: str, region: str, account_id: str, **kwargs: Any) -> MotoQueue:
            return MotoQueue(name, region, account_id, journal=journal, **kwargs)  # type: ignore[abstract] # moto needs no more methods

        def receive(
            backend: Any,
            queue_name: str,
            count: int,
            wait: int,
            visibility: int,
            names: list[str] | None = None,
        ) -> list[Any]:
            queue = backend.get_queue(queue_name)
            return [
                as_moto(message, names or []) for message in queue.store.receive(count, wait, int(visibility))
            ]

        def change_visibility(
            backend: Any, queue_name: str, receipt_handle: str, visibility_timeout: int
        ) -> None:
            try:
                backend.get_queue(queue_name).store.change_visibility(receipt_handle, int(visibility_timeout))
            except UnknownReceipt:
                raise ReceiptHandleIsInvalid from None

        def purge(backend: Any, queue_name: str) -> None:
            backend.get_queue(queue_name).store.purge()

        make._is_empty_redrive_policy = models.Queue._is_empty_redrive_policy  # type: ignore[attr-defined]  # noqa: SLF001
        self._replace(models, "Queue", make)
        self._replace(models.SQSBackend, "receive_message", receive)
        self._replace(models.SQSBackend, "change_message_visibility", change_visibility)
        self._replace(models.SQSBackend, "purge_queue", purge)
        self._moves()

    def _moves(self) -> None:
        responses = MoveResponses(self._hooks.moves)

        def start_message_move_task(response: Any) -> ActionResult:
            return responses.start_message_move_task(response)

        def list_message_move_tasks(response: Any) -> ActionResult:
            return responses.list_message_move_tasks(response)

        def cancel_message_move_task(response: Any) -> ActionResult:
            return responses.cancel_message_move_task(response)

        for action in (start_message_move_task, list_message_move_tasks, cancel_message_move_task):
            self._add(moto.sqs.responses.SQSResponse, action.__name__, action)

    def _events(self) -> None:
        buses = self._hooks.buses

        def put_events(_backend: Any, events: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
            if len(events) > Buses.LIMIT:
                raise ValidationException(f"Member must have length less than or equal to {Buses.LIMIT}")
            return buses.put_events(events)

        self._replace(moto.events.models.EventsBackend, "put_events", put_events)

    def _objects(self) -> None:
        mirror, put, delete = self._hooks.mirror, self.put_object, moto.s3.models.S3Backend.delete_object

        def put_object(
            backend: Any, bucket_name: str, key_name: str, value: bytes, *rest: Any, **kwargs: Any
        ) -> Any:
            stored = put(backend, bucket_name, key_name, value, *rest, **kwargs)
            mirror.save(bucket_name, key_name, stored.value)
            return stored

        def delete_object(backend: Any, bucket_name: str, key_name: str, *rest: Any, **kwargs: Any) -> Any:
            result = delete(backend, bucket_name, key_name, *rest, **kwargs)
            latest = backend.get_object(bucket_name, key_name)
            if latest is None:
                mirror.forget(bucket_name, key_name)
            else:
                mirror.save(bucket_name, key_name, latest.value)
            return result

        self._replace(moto.s3.models.S3Backend, "put_object", put_object)
        self._replace(moto.s3.models.S3Backend, "delete_object", delete_object)

    def _secrets(self) -> None:
        journal, add = self._hooks.journal, moto.secretsmanager.models.SecretsManagerBackend._add_secret  # noqa: SLF001

        def add_secret(
            backend: Any, secret_id: str, secret_string: str | None = None, *rest: Any, **kw: Any
        ) -> Any:
            added = add(backend, secret_id, secret_string, *rest, **kw)
            if secret_string is not None and "AWSCURRENT" in (kw.get("version_stages") or ["AWSCURRENT"]):
                with journal.transaction() as db:
                    db.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?)", (added[0].name, secret_string))
            return added

        self._replace(moto.secretsmanager.models.SecretsManagerBackend, "_add_secret", add_secret)

    def _parameters(self) -> None:
        journal, owner = self._hooks.journal, moto.ssm.models.SimpleSystemManagerBackend
        put, delete = owner.put_parameter, owner.delete_parameter

        def put_parameter(
            backend: Any,
            name: str,
            description: str,
            value: str,
            parameter_type: str,
            *rest: Any,
            **kwargs: Any,
        ) -> Any:
            stored = put(backend, name, description, value, parameter_type, *rest, **kwargs)
            with journal.transaction() as db:
                row = (name, parameter_type or stored.parameter_type, value)
                db.execute("INSERT OR REPLACE INTO parameters VALUES (?, ?, ?)", row)
            return stored

        def delete_parameter(backend: Any, name: str) -> Any:
            deleted = delete(backend, name)
            with journal.transaction() as db:
                db.execute("DELETE FROM parameters WHERE name = ?", (name,))
            return deleted

        self._replace(owner, "put_parameter", put_parameter)
        self._replace(owner, "delete_parameter", delete_parameter)

    def _functions(self) -> None:
        hooks = self._hooks

        def invoke(
            backend: Any, function_name: str, _qualifier: Any, body: Any, headers: Any, response_headers: Any
        ) -> bytes:
            name = function_name.rpartition(":function:")[2].partition(":")[0]
            if not hooks.knows_function(name):
                arn = f"arn:aws:lambda:{backend.region_name}:{backend.account_id}:function:{name}"
                raise UnknownFunctionException(arn)
            payload = body.encode() if isinstance(body, str) else bytes(body or b"{}")
            if headers.get("X-Amz-Invocation-Type") == "Event":
                threading.Thread(target=hooks.invoke, args=(name, payload), daemon=True).start()
                return b""
            answer = hooks.invoke(name, payload)
            if answer.error:
                response_headers["x-amz-function-error"] = "Unhandled"
            return answer.payload

        self._replace(moto.awslambda.models.LambdaBackend, "invoke", invoke)

    def _jobs(self) -> None:
        jobs, owner = self._hooks.jobs, moto.sagemaker.responses.SageMakerResponse

        def create(kind: str) -> Callable[[Any], ActionResult]:
            def start(response: Any) -> ActionResult:
                parameters = dict(response.params)
                try:
                    return ActionResult({f"{kind}JobArn": jobs.start(kind, parameters).arn})
                except JobExists as taken:
                    raise ResourceInUse(message=str(taken)) from None

            return start

        def describe(kind: str) -> Callable[[Any], ActionResult]:
            def look(response: Any) -> ActionResult:
                try:
                    job = jobs.get(kind, response._get_param(f"{kind}JobName"))  # noqa: SLF001
                except UnknownJob as unknown:
                    raise ValidationError(message=str(unknown)) from None
                return ActionResult(job.describe())

            return look

        for kind in ("Training", "Processing"):
            self._replace(owner, f"create_{kind.lower()}_job", create(kind))
            self._replace(owner, f"describe_{kind.lower()}_job", describe(kind))

    def _tasks(self) -> None:
        from local.aws.sagemaker_task import SageMakerTask

        factory = importlib.import_module(_TASKS)
        original = factory.state_task_service_for
        hooks = self._hooks

        def service_for(service_name: str) -> Any:
            if service_name == "sagemaker":
                return SageMakerTask(hooks.jobs)
            return original(service_name)

        self._replace(factory, "state_task_service_for", service_for)
        self._name_executions()
        self._replace_client_factory(lambda **wanted: hooks.client(wanted["service"]))

    def _name_executions(self) -> None:
        """Name an execution by a UUID if the caller gives no name, as on AWS; moto would name it "None"."""
        from moto.stepfunctions.parser.models import StepFunctionsParserBackend

        start = StepFunctionsParserBackend.start_execution

        def start_execution(
            backend: Any, arn: str, name: str | None = None, *rest: Any, **kwargs: Any
        ) -> Any:
            return start(backend, arn, name or str(uuid.uuid4()), *rest, **kwargs)

        self._replace(StepFunctionsParserBackend, "start_execution", start_execution)

    def _replace_client_factory(self, replacement: Callable[..., Any]) -> None:
        """Replace the factory in every module of the interpreter that imported it by name."""
        from moto.stepfunctions.parser.asl.utils.boto_client import boto_client_for

        for name, module in list(sys.modules.items()):
            if (
                name.startswith("moto.stepfunctions.")
                and vars(module).get("boto_client_for") is boto_client_for
            ):
                self._replace(module, "boto_client_for", replacement)
