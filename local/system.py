"""The whole system on one machine, started from an unmodified cloud assembly."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from local.apigateway.gateway import Gateway, serving
from local.assembly.template import Stack, load_assembly
from local.aws.account import EmbeddedAws
from local.aws.sqs import DurableQueue
from local.aws.ttl import ExpirySweep
from local.deployment.deployment import Deployment
from local.deployment.provisioner import Provisioner
from local.errors import LocalError, PortBusy
from local.lambda_.service import Invocation, LambdaService
from local.state import StateFolder

PORT = 8080
_ROOT = Path(__file__).resolve().parent.parent
_CODE = (_ROOT, _ROOT / "layers/core/python", _ROOT / "layers/lender/python")


class LocalSystem:
    """Starts all resources of an assembly and keeps their state; use it as a context manager.

    `url` is the API's address, `endpoints` the environment variables by which an AWS client finds the account,
    `outputs` the stacks' outputs by name. `port` 0 takes a free port. `say` receives notices for the user.
    Raises LocalError: an unknown resource type, a busy port, a state folder in use or of another shape.
    """

    def __init__(
        self,
        assembly: Path | str = "cdk.out",
        state: Path | str = ".local",
        port: int = PORT,
        *,
        stage: str = "dev",
        say: Callable[[str], None] = print,
    ) -> None:
        self._assembly, self._state_path, self._port, self._stage = Path(assembly), Path(state), port, stage
        self._say = say
        self._closing = contextlib.ExitStack()
        self.outputs: dict[str, str] = {}
        self.url = ""

    def __enter__(self) -> Self:
        try:
            stacks = self._read()
            self._state = StateFolder(self._state_path)
            self._closing.callback(self._state.close)
            listener = self._listen()
            self._prepare(stacks[0].region)
            self._provision(stacks)
            self._serve(listener)
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _read(self) -> Sequence[Stack]:
        """The stacks to start. Raises before anything is created when a resource type is unknown."""
        stacks = load_assembly(self._assembly, self._stage)
        if not stacks:
            raise LocalError(f"{self._assembly} has no stack: run `make synth`")
        for stack in stacks:
            Provisioner.check(stack)
        return stacks

    def _listen(self) -> socket.socket:
        """Bind the API's port before anything slow starts, so that a busy port fails at once."""
        listener = _listening(self._port)
        self._closing.callback(listener.close)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        return listener

    def _prepare(self, region: str) -> None:
        self._aws = EmbeddedAws(
            self._state,
            region,
            self.invoke,
            lambda name: name in self._deployment.names,
            list(_CODE),
        )
        self._closing.callback(self._aws.close)
        self._aws.start(self._say)
        self._functions = LambdaService(self._state.folder("logs/functions"), self.endpoints)
        self._closing.callback(self._functions.close)
        self._deployment = Deployment(self._aws, self._functions, self._state.journal)

    def _provision(self, stacks: Sequence[Stack]) -> None:
        exports: dict[str, Any] = {}
        outputs_of = {stack.name: Provisioner(stack, self._deployment, exports).start() for stack in stacks}
        self._aws.restore_parameters()
        for name, outputs in outputs_of.items():
            reachable = {key: self._reachable(str(value)) for key, value in outputs.items()}
            self._aws.stacks[name] = reachable
            self.outputs |= reachable

    def _reachable(self, output: str) -> str:
        """The output with the local address in place of the deployed API's."""
        for api in self._deployment.apis:
            output = re.sub(rf"https://{re.escape(api)}\.execute-api\.[^/]+/[^/]+/?", self.url, output)
        return output

    def _serve(self, listener: socket.socket) -> None:
        """Start deliveries, pollers, expiry and the API."""
        for stream in self._aws.streams.values():
            stream.start()
        for stream_poller in self._deployment.stream_pollers:
            self._closing.callback(stream_poller.stop)
            stream_poller.start()
        for _, poller in self._deployment.pollers:
            self._closing.callback(poller.stop)
            poller.start()
        sweep = ExpirySweep(self.client("dynamodb"))
        self._closing.callback(sweep.stop)
        sweep.start()
        api = self._deployment.rest_api(self._aws.region, self._stage)
        if api is not None:
            self._closing.enter_context(serving(Gateway(api, self.invoke), listener))
        endpoints = {**self.endpoints, "API_URL": self.url}
        (self._state.path / "endpoints.json").write_text(json.dumps(endpoints, indent=1))

    def serve(self) -> None:
        """Print READY, and return when interrupted."""
        with contextlib.suppress(KeyboardInterrupt):
            print(f"READY {self.url}", flush=True)
            threading.Event().wait()

    @property
    def endpoints(self) -> dict[str, str]:
        return self._aws.endpoints

    def invoke(self, function: str, payload: bytes) -> Invocation:
        """Invoke a function by name and wait for its result; thread-safe."""
        return self._functions.invoke(function, payload)

    def folder(self, name: str) -> Path:
        """A subfolder of the state folder, created if missing."""
        return self._state.folder(name)

    def functions(self) -> list[str]:
        """The names of all functions."""
        return sorted(self._deployment.names)

    def pids(self, function: str) -> list[int]:
        """The process ids of one function's sandboxes."""
        return self._functions.pids(function)

    def client(self, service: str) -> Any:
        """A boto3 client of this account."""
        return self._aws.client(service)

    def publish(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """PutEvents without HTTP and its limit of ten entries; results in order, events durable on return."""
        return self._aws.buses.put_events(entries) if entries else []

    def queue(self, name: str) -> DurableQueue:
        """A queue by its name, ARN or URL."""
        return self._aws.durable_queue(name.rpartition("/")[2])

    def drain(self, timeout_s: float = 600) -> None:
        """Wait until polled queues hold no visible or in-flight message and all stream records are handed over.

        Messages that a stream's function sends to a queue are waited for as well; delayed messages are not.
        Raises LocalError after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            before = self._handed_over()
            self._settle(deadline, f"after {timeout_s:g} s: read {self._state.path / 'logs' / 'functions'}")
            if self._handed_over() == before and all(q.idle() for q, _ in self._deployment.pollers):
                return

    def _settle(self, deadline: float, hint: str) -> None:
        for queue, _ in self._deployment.pollers:
            if not queue.wait_until_idle(max(0.0, deadline - time.monotonic())):
                raise LocalError(f"{queue.name} still holds {len(queue)} messages {hint}")
        for stream_poller in self._deployment.stream_pollers:
            if not stream_poller.settle(max(0.0, deadline - time.monotonic())):
                name = stream_poller.stream.arn.rpartition(":")[2]
                raise LocalError(f"{name} is not handed over to {stream_poller.mapping.function} {hint}")

    def _handed_over(self) -> int:
        return sum(stream_poller.handed_over for stream_poller in self._deployment.stream_pollers)

    def flush(self) -> int:
        """Deliver the records buffered in delivery streams; returns the number of objects written."""
        return sum(stream.flush() for stream in self._aws.streams.values())


def _listening(port: int) -> socket.socket:
    # asyncio disables Nagle only on IPPROTO_TCP sockets; otherwise a response waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is above 65535"
        other = port + 10 if port < 60_000 else PORT
        raise PortBusy(
            f"port {port} cannot be served ({reason}): choose another, as in PORT={other}"
        ) from None
    return listener
