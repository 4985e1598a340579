"""Systems that answer requests in processes of their own, and the CPU that all their processes used."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.request.world import CUSTOMERS, ROOT, SETTINGS, proxied
from local.lambda_.environment import FunctionSpec
from local.lambda_.sandbox import Sandbox

START_S = 60.0


class Server(Protocol):
    """A system under load."""

    def serve(self, customer: int) -> None:
        """Send a request. Raises RuntimeError unless it succeeds."""
        ...

    def spent_ns(self) -> int:
        """CPU of all its processes so far."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Function:
    """A Lambda function under awslambdaric and the Runtime API."""

    def __init__(self, name: str, code: Path, environment: Mapping[str, str], log: Path) -> None:
        spec = FunctionSpec(name, "handler.handler", code, environment=environment, timeout_s=30)
        libraries = (ROOT / "layers/core/python", ROOT / "layers/lender/python", ROOT, code)
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, libraries)),
            **SETTINGS,
            **environment,
        }
        self._sandbox = Sandbox(spec, variables, log, "us-east-1")
        self._sandbox.boot()

    def serve(self, customer: int) -> None:
        answer_body = self._sandbox.invoke(json.dumps(proxied(customer)).encode(), f"request-{customer}")
        if answer_body.error or json.loads(answer_body.payload)["statusCode"] != 200:
            raise RuntimeError(f"{answer_body.error}: {answer_body.payload[:500]!r}")

    def spent_ns(self) -> int:
        return cpu_ns(self._sandbox.pid)

    def close(self) -> None:
        self._sandbox.close()


class Peer:
    """A web server of another environment; `request` gives path and body for a customer."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        port: int,
        environment: Mapping[str, str],
        request: Callable[[int], tuple[str, bytes]],
        log: Path,
    ) -> None:
        variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1", **environment}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=output, stderr=output, start_new_session=True
            )
        self._request = request
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._await(log)

    def _await(self, log: Path) -> None:
        ends = time.monotonic() + START_S
        while True:
            try:
                return self.serve(0)
            except (OSError, http.client.HTTPException, RuntimeError) as error:
                self._connection.close()
                if time.monotonic() > ends or self._process.poll() is not None:
                    self.close()
                    raise RuntimeError(f"it does not answer, see {log}") from error
                time.sleep(0.5)

    def serve(self, customer: int) -> None:
        path, body = self._request(customer)
        if customer == 0:  # a round begins: servers close connections that idled
            self._connection.close()
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        answer_body = answer.read()
        if answer.status != 200 or b"NOT_FOUND" in answer_body:
            raise RuntimeError(f"{answer.status}: {answer_body[:500]!r}")

    def spent_ns(self) -> int:
        return sum(map(cpu_ns, family(self._process.pid)))

    def close(self) -> None:
        self._connection.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def cpu_ns(pid: int) -> int:
    """CPU (ns) of a process and its threads (Linux: the clock id derives from the pid)."""
    if sys.platform != "linux":
        raise SystemExit("CPU of another process is read by Linux's clocks alone: run this there")
    return time.clock_gettime_ns(~pid << 3 | 2)


def family(pid: int) -> list[int]:
    """Pids of a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it ended in between
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    pids = [pid]
    for parent in pids:
        pids += parents.get(parent, ())
    return pids


def load(server: Server, requests: int = CUSTOMERS) -> tuple[int, float]:
    """CPU (ns) and elapsed time (s) of sequential requests, customers in turn."""
    spent, started = server.spent_ns(), time.perf_counter()
    for customer in range(requests):
        server.serve(customer % CUSTOMERS)
    return server.spent_ns() - spent, time.perf_counter() - started
