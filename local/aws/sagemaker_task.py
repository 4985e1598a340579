"""Step Functions' optimised SageMaker integration: createTrainingJob and createProcessingJob with `.sync`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceCondition
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

from local.aws.sagemaker_jobs import ContainerJob, ContainerJobs, JobExists

_KINDS = {"createtrainingjob": "Training", "createprocessingjob": "Processing"}
_COMMON = {"RoleArn", "StoppingCondition", "Tags", "ExperimentConfig", "Environment"}
_PARAMETERS = {
    "Training": _COMMON
    | {
        "TrainingJobName",
        "AlgorithmSpecification",
        "HyperParameters",
        "InputDataConfig",
        "OutputDataConfig",
        "ResourceConfig",
        "VpcConfig",
        "CheckpointConfig",
        "EnableNetworkIsolation",
        "EnableInterContainerTrafficEncryption",
        "EnableManagedSpotTraining",
        "RetryStrategy",
    },
    "Processing": _COMMON
    | {
        "ProcessingJobName",
        "AppSpecification",
        "ProcessingInputs",
        "ProcessingOutputConfig",
        "ProcessingResources",
        "NetworkConfig",
    },
}
_WAIT_S = 0.5


class SageMakerTask(StateTaskServiceCallback):
    """Starts a container job and, for `.sync`, waits for its end. Other SageMaker calls fail the state."""

    def __init__(self, jobs: ContainerJobs) -> None:
        # The interpreter requires a callback end point for every pattern.
        super().__init__(
            {ResourceCondition(ResourceCondition.Sync), ResourceCondition(ResourceCondition.WaitForTaskToken)}
        )
        self._jobs = jobs

    def _kind(self) -> str:
        action = str(self.resource.api_action)
        kind = _KINDS.get(action.lower())
        if kind is None:
            raise RuntimeError(f"sagemaker:{action} is not supported by the local system")
        return kind

    def _get_supported_parameters(self) -> set[str] | None:
        return _PARAMETERS[self._kind()]

    def _eval_service_task(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        kind = self._kind()
        try:
            job = self._jobs.start(kind, normalised_parameters)
        except JobExists as taken:
            raise FailureEventException(self._refused(env, taken)) from None
        env.stack.append({f"{kind}JobArn": job.arn})

    def _build_sync_resolver(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> Callable[[], Any] | None:
        kind = self._kind()
        env.stack.pop()
        job = self._jobs.get(kind, normalised_parameters[f"{kind}JobName"])

        def resolve() -> dict[str, Any] | None:
            if not job.wait(_WAIT_S):
                return None
            if job.status == "Completed":
                return job.result()
            raise FailureEventException(self._failure(env, job))

        return resolve

    def _refused(self, env: Any, taken: JobExists) -> FailureEvent:
        error = "SageMaker.ResourceInUseException"
        details = TaskFailedEventDetails(
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
            error=error,
            cause=str(taken),
        )
        return FailureEvent(
            env=env,
            error_name=CustomErrorName(error),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),  # type: ignore[typeddict-item]
        )

    def _failure(self, env: Any, job: ContainerJob) -> FailureEvent:
        details = TaskFailedEventDetails(
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
            error=StatesErrorNameType.StatesTaskFailed.to_name(),
            cause=json.dumps(job.result()),
        )
        return FailureEvent(
            env=env,
            error_name=StatesErrorName(typ=StatesErrorNameType.StatesTaskFailed),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),  # type: ignore[typeddict-item]
        )
