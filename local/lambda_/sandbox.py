"""One Lambda sandbox: a process that runs awslambdaric, invoked over its own Runtime API port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from local.assembly.template import ACCOUNT
from local.lambda_.environment import FunctionSpec
from local.lambda_.runtime_api import BODY_LIMIT, DeadlinePassed, RuntimeApi, RuntimeRequest, SandboxGone
from local.processes import spawn

INIT_LIMIT_S = 30.0  # AWS allows 10 s; a cold file cache on a small machine needs more
_PREFIX = "/2018-06-01/runtime"


@dataclass(frozen=True)
class Invocation:
    """The result of one invocation: the handler's JSON, or Lambda's error object with `error` = its type."""

    payload: bytes
    error: str | None
    request_id: str


class NotHandedOver(Exception):
    """The sandbox ended before it read the request, so another may take it; the message says how it ended."""


class InitFailed(Exception):
    """The function's initialisation failed; `payload` is Lambda's error object."""

    def __init__(self, error_type: str, payload: bytes) -> None:
        super().__init__(error_type)
        self.error_type = error_type
        self.payload = payload


def error_payload(error_type: str, message: str) -> bytes:
    """Lambda's error object, as its caller receives it."""
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


class Sandbox:
    """One sandbox process. Only one thread at a time may `boot` or `invoke` it."""

    def __init__(self, spec: FunctionSpec, environment: Mapping[str, str], log: Path, region: str) -> None:
        self._spec = spec
        self._log = log
        self._arn = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{spec.name}"
        self._pending: RuntimeRequest | None = None
        self._api = RuntimeApi()
        try:
            self._process = self._launch({**environment, "AWS_LAMBDA_RUNTIME_API": self._api.address})
            self._api.watch(self._process)
        except BaseException:
            self._api.close()
            raise

    def _launch(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "awslambdaric", self._spec.handler]
        with self._log.open("ab") as log:
            return spawn(command, env=environment, output=log, cwd=self._spec.code)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def boot(self) -> None:
        """Wait until the function is initialised. Raises InitFailed, or NotHandedOver when the process ended."""
        self._pending = self._await_next()

    def invoke(self, payload: bytes, request_id: str) -> Invocation:
        """Hand over one request and wait for its result.

        A timeout, a crash and an exception are returned as an Invocation with `error`. Raises NotHandedOver when the
        handler certainly did not see the request. After anything but a response, `alive` is False.
        """
        polled = self._pending or self._await_next()
        self._pending = None
        deadline = time.monotonic() + self._spec.timeout_s
        try:
            self._hand_over(polled, payload, request_id)
            outcome = self._api.next_request(deadline)
        except (DeadlinePassed, TimeoutError):
            return self._timed_out(request_id)
        except SandboxGone as gone:
            if gone.unread:
                raise self._not_handed_over() from gone
            return self._exited(request_id)
        return self._result(outcome, request_id)

    def _await_next(self) -> RuntimeRequest:
        deadline = time.monotonic() + INIT_LIMIT_S
        try:
            request = self._api.next_request(deadline)
        except SandboxGone as gone:
            raise self._not_handed_over() from gone
        except DeadlinePassed:
            self.kill()
            message = f"Error: Initialization timed out after {INIT_LIMIT_S:.2f} seconds"
            raise InitFailed("Sandbox.Timedout", error_payload("Sandbox.Timedout", message)) from None
        if request.path.endswith("/init/error"):
            self._acknowledge(request)
            self.kill()
            raise InitFailed(_error_type(request), request.body)
        return request

    def _hand_over(self, polled: RuntimeRequest, payload: bytes, request_id: str) -> None:
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self._spec.timeout_s) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self._arn,
        }
        self._api.mark()
        try:
            polled.respond("200 OK", headers, payload, self._spec.timeout_s)
        except ConnectionError as broken:  # an incomplete request starts no handler
            raise self._not_handed_over() from broken

    def _not_handed_over(self) -> NotHandedOver:
        self.kill()
        return NotHandedOver(self.exit_reason())

    def _result(self, outcome: RuntimeRequest, request_id: str) -> Invocation:
        self._acknowledge(outcome)
        if outcome.path == f"{_PREFIX}/invocation/{request_id}/error":
            return Invocation(outcome.body, _error_type(outcome), request_id)
        if outcome.path != f"{_PREFIX}/invocation/{request_id}/response":
            self.kill()
            message = f"RequestId: {request_id} Error: unexpected call {outcome.method} {outcome.path}"
            return self._failed("Runtime.ProtocolError", message, request_id)
        if len(outcome.body) > BODY_LIMIT:
            message = f"Response payload size exceeded maximum allowed payload size ({BODY_LIMIT} bytes)."
            return self._failed("Function.ResponseSizeTooLarge", message, request_id)
        return Invocation(outcome.body, None, request_id)

    def _acknowledge(self, request: RuntimeRequest) -> None:
        """Acknowledge a request; an error kills the sandbox but keeps the result, which is complete."""
        try:
            request.respond("202 Accepted", {}, b"", 1.0)
        except OSError:
            self.kill()

    def _timed_out(self, request_id: str) -> Invocation:
        self.kill()
        text = f"Task timed out after {self._spec.timeout_s:.2f} seconds"
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        self._note(f"{moment}Z {request_id} {text}")
        return self._failed("Sandbox.Timedout", f"RequestId: {request_id} Error: {text}", request_id)

    def _exited(self, request_id: str) -> Invocation:
        self.kill()
        message = f"RequestId: {request_id} Error: {self.exit_reason()}"
        self._note(message)
        return self._failed("Runtime.ExitError", message, request_id)

    def _failed(self, error_type: str, message: str, request_id: str) -> Invocation:
        return Invocation(error_payload(error_type, message), error_type, request_id)

    def exit_reason(self) -> str:
        """The end of the process, in the wording of Lambda."""
        status = self._process.returncode
        if not status:
            return "Runtime exited without providing a reason"
        if status > 0:
            return f"Runtime exited with error: exit status {status}"
        description = signal.strsignal(-status) or f"signal {-status}"
        return f"Runtime exited with error: signal: {description.lower()}"

    def _note(self, line: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def kill(self) -> None:
        """Kill the process and its children, and reap it."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill the process and release the port. Must not be called while another thread invokes."""
        self.kill()
        self._api.close()


def _error_type(request: RuntimeRequest) -> str:
    """The error type, which the runtime sends in a header (initialisation) or in the error object (invocation)."""
    named = request.headers.get("lambda-runtime-function-error-type")
    try:
        return str(named or json.loads(request.body)["errorType"] or "Unhandled")
    except (ValueError, KeyError, TypeError):
        return "Unhandled"
