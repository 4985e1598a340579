"""The local Lambda service: a capped pool of warm processes for each function.

Differences from AWS: sandboxes are not frozen between invocations, memory is not limited, asynchronous invocation
and its retries are left to the caller, and a request at the cap waits for a bounded time before it is throttled.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from local.assembly.template import REGION
from local.lambda_.environment import FunctionSpec, environment
from local.lambda_.runtime_api import BODY_LIMIT
from local.lambda_.sandbox import InitFailed, Invocation, NotHandedOver, Sandbox, error_payload

__all__ = ["FunctionSpec", "Invocation", "LambdaService", "UnknownFunction"]

GRACE_S = 0.025  # a busy sandbox is often free within this time, which is cheaper than starting another
PATIENCE_S = 30.0
_ATTEMPTS = 5
_STARTING_AT_ONCE = os.cpu_count() or 2


class UnknownFunction(LookupError):
    """No function of that name is registered."""


class _Throttled(Exception):
    pass


class _Closed(Exception):
    pass


class _Pool:
    """The sandboxes of one function; the most recently used idle one is taken first."""

    def __init__(self, limit: int, launch: Callable[[], Sandbox]) -> None:
        self._limit = limit
        self._launch = launch
        self._changed = threading.Condition()
        self._idle: list[Sandbox] = []
        self._ready: set[Sandbox] = set()  # initialised ones, idle or busy
        self._booting: set[Sandbox] = set()
        self._starting = 0  # reserved slots: booting ones and those not launched yet
        self._closed = False

    def acquire(self, patience_s: float) -> Sandbox:
        """An initialised sandbox for exclusive use, started if needed.

        Raises InitFailed, NotHandedOver (it ended while starting), _Closed, _Throttled after `patience_s`.
        """
        sandbox = self._idle_or_reservation(patience_s)
        return sandbox if sandbox is not None else self._start()

    def _idle_or_reservation(self, patience_s: float) -> Sandbox | None:
        """An idle sandbox, or None with a slot reserved for a new one."""
        began = time.monotonic()
        with self._changed:
            while not self._closed:
                sandbox = self._take_idle()
                if sandbox is not None:
                    return sandbox
                waited = time.monotonic() - began
                if self._may_start(waited):
                    self._starting += 1
                    return None
                if waited >= patience_s:
                    raise _Throttled
                self._changed.wait(GRACE_S - waited if waited < GRACE_S else patience_s - waited)
        raise _Closed

    def _take_idle(self) -> Sandbox | None:
        while self._idle:
            sandbox = self._idle.pop()
            if sandbox.alive:
                return sandbox
            self._discard(sandbox)
        return None

    def _may_start(self, waited: float) -> bool:
        count = len(self._ready) + self._starting
        if count == 0:
            return True
        return waited >= GRACE_S and count < self._limit and self._starting < _STARTING_AT_ONCE

    def _start(self) -> Sandbox:
        """Launch and initialise a sandbox outside the lock, in the reserved slot."""
        sandbox = None
        booted = False
        try:
            sandbox = self._launch()
            self._admit(sandbox)
            sandbox.boot()
            booted = True
            return sandbox
        finally:
            self._started(sandbox, booted=booted)

    def _admit(self, sandbox: Sandbox) -> None:
        with self._changed:
            self._booting.add(sandbox)
            if self._closed:
                raise _Closed

    def _started(self, sandbox: Sandbox | None, *, booted: bool) -> None:
        with self._changed:
            self._starting -= 1
            if sandbox is not None:
                self._booting.discard(sandbox)
                if booted:
                    self._ready.add(sandbox)
                else:
                    sandbox.close()
            self._changed.notify_all()

    def release(self, sandbox: Sandbox) -> None:
        """Return a sandbox to the pool; a dead one is discarded."""
        with self._changed:
            if self._closed or not sandbox.alive:
                self._discard(sandbox)
            else:
                self._idle.append(sandbox)
            self._changed.notify()

    def _discard(self, sandbox: Sandbox) -> None:
        self._ready.discard(sandbox)
        sandbox.close()

    def pids(self) -> list[int]:
        with self._changed:
            return sorted(sandbox.pid for sandbox in self._ready | self._booting if sandbox.alive)

    def close(self) -> None:
        """Kill all sandboxes; invocations in progress see their sandbox end, and discard it."""
        with self._changed:
            self._closed = True
            for sandbox in self._idle:
                self._discard(sandbox)
            self._idle.clear()
            for sandbox in self._ready | self._booting:
                sandbox.kill()
            self._changed.notify_all()


class LambdaService:
    """Runs registered functions, each in its own processes, with the real Lambda runtime client.

    `endpoints` are the variables by which AWS clients find the local services; a function's own environment takes
    precedence. A function's output goes to `log_dir`/<name>.log. No sandbox survives this process (Linux).
    """

    def __init__(
        self,
        log_dir: Path,
        endpoints: Mapping[str, str] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        log_dir.mkdir(parents=True, exist_ok=True)
        self._log_dir = log_dir
        self._endpoints = dict(endpoints or {})
        self._patience_s = patience_s
        self._pools: dict[str, _Pool] = {}
        # The kernel kills a sandbox when the thread that forked it ends, so one long-lived thread forks all.
        self._forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-forker")

    def register(self, spec: FunctionSpec) -> None:
        """Register a function under its name. Raises ValueError when the name is taken."""
        if spec.name in self._pools:
            raise ValueError(f"function {spec.name} is registered twice")
        if not spec.code.is_dir():
            raise ValueError(f"function {spec.name}: its asset {spec.code} is not a folder; run `make synth`")
        region = self._endpoints.get("AWS_REGION", REGION)
        variables = environment(spec, self._endpoints)
        log = self._log_dir / f"{spec.name}.log"

        def launch() -> Sandbox:
            try:
                launched = self._forker.submit(Sandbox, spec, variables, log, region)
            except RuntimeError as error:  # closed since the slot was reserved
                raise _Closed from error
            return launched.result()

        self._pools[spec.name] = _Pool(spec.concurrency, launch)

    def invoke(self, name: str, payload: bytes) -> Invocation:
        """Invoke and wait; thread-safe. Raises for an unknown name only: other failures are an Invocation with `error`.

        A request whose sandbox ended before reading it is given to another one; after that it is not repeated.
        """
        pool = self._pool(name)
        request_id = str(uuid.uuid4())
        if len(payload) > BODY_LIMIT:
            message = f"Request must be smaller than {BODY_LIMIT} bytes for the InvokeFunction operation"
            return _refused("RequestEntityTooLargeException", message, request_id)
        reason = ""
        for _ in range(_ATTEMPTS):
            try:
                return self._attempt(pool, payload, request_id)
            except NotHandedOver as ended:
                reason = str(ended)
            except InitFailed as failure:
                return Invocation(failure.payload, failure.error_type, request_id)
            except _Throttled:
                return _refused("TooManyRequestsException", "Rate Exceeded.", request_id)
            except _Closed:
                return _refused("ServiceException", "The local Lambda service is shutting down.", request_id)
        return _refused("Runtime.ExitError", f"RequestId: {request_id} Error: {reason}", request_id)

    def _attempt(self, pool: _Pool, payload: bytes, request_id: str) -> Invocation:
        sandbox = pool.acquire(self._patience_s)
        try:
            return sandbox.invoke(payload, request_id)
        finally:
            pool.release(sandbox)

    def _pool(self, name: str) -> _Pool:
        try:
            return self._pools[name]
        except KeyError:
            known = ", ".join(sorted(self._pools)) or "none"
            raise UnknownFunction(f"no function {name} is registered; known: {known}") from None

    def pids(self, name: str) -> list[int]:
        """The process ids of a function's live sandboxes."""
        return self._pool(name).pids()

    def close(self) -> None:
        """Kill every sandbox; invocations in progress fail. May be called again."""
        for pool in self._pools.values():
            pool.close()
        self._forker.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refused(error_type: str, message: str, request_id: str) -> Invocation:
    return Invocation(error_payload(error_type, message), error_type, request_id)
