"""Real runtime clients in real processes, with handlers of a few lines."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local.lambda_ import service as runtime
from local.lambda_.service import FunctionSpec, LambdaService, UnknownFunction

HANDLER = """
    import json, os, sys, threading, time

    STATE = {"calls": 0}

    def handler(event, context):
        STATE["calls"] += 1
        what = event.get("do")
        if what == "sleep":
            time.sleep(event["seconds"])
        elif what == "raise":
            raise ValueError("no such instalment")
        elif what == "exit":
            os._exit(event["status"])
        elif what == "env":
            return dict(os.environ)
        elif what == "path":
            return sys.path
        elif what == "print":
            print("the handler was here")
        elif what == "echo":
            return event["value"]
        elif what == "large":
            return "x" * event["size"]
        elif what == "mark":
            open(event["file"], "a").write(event.get("line", "once") + "\\n")
            time.sleep(event["seconds"])
        return {"pid": os.getpid(), "calls": STATE["calls"], "left": context.get_remaining_time_in_millis(),
                "id": context.aws_request_id, "arn": context.invoked_function_arn}
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LambdaService]:
    endpoints = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_REGION": "eu-central-1"}
    with LambdaService(tmp_path / "logs", endpoints) as running:
        yield running


@pytest.fixture
def declare(tmp_path: Path, service: LambdaService) -> Callable[..., str]:
    def write(name: str = "probe", source: str = HANDLER, **settings: Any) -> str:
        code = tmp_path / name
        code.mkdir()
        (code / "handler.py").write_text(textwrap.dedent(source))
        service.register(FunctionSpec(name=name, handler="handler.handler", code=code, **settings))
        return name

    return write


def ask(service: LambdaService, name: str, **event: Any) -> Any:
    result = service.invoke(name, json.dumps(event).encode())
    assert result.error is None, result.payload
    return json.loads(result.payload)


def gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rsplit(")", 1)[1].split()[0] == "Z"


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit, "did not happen in 10 s"
        time.sleep(0.01)


def test_a_warm_process_serves_every_next_request(
    service: LambdaService, declare: Callable[..., str]
) -> None:
    name = declare(timeout_s=7)
    answers = [ask(service, name) for _ in range(20)]
    assert len({answer["pid"] for answer in answers}) == 1
    assert [answer["calls"] for answer in answers] == list(range(1, 21))
    assert service.pids(name) == [answers[0]["pid"]]
    assert len({answer["id"] for answer in answers}) == 20
    assert all(5_000 < answer["left"] <= 7_000 for answer in answers)
    assert answers[0]["arn"] == "arn:aws:lambda:eu-central-1:123456789012:function:probe"


def test_the_environment_is_the_templates_and_nothing_of_the_developers(
    service: LambdaService, declare: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "a-real-account")
    name = declare(environment={"STAGE": "dev", "POWERTOOLS_SERVICE_NAME": "score"}, memory_mb=512)
    environment = ask(service, name, do="env")
    assert "AWS_PROFILE" not in environment
    assert environment["STAGE"] == "dev"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == name
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert environment["AWS_REGION"] == "eu-central-1"
    assert environment["AWS_ACCESS_KEY_ID"] == "local"


def test_layers_are_searched_after_the_asset_and_foreign_binaries_are_left_to_the_venv(
    tmp_path: Path, service: LambdaService, declare: Callable[..., str]
) -> None:
    ours, foreign = tmp_path / "ours", tmp_path / "foreign"
    for layer in (ours, foreign):
        (layer / "python").mkdir(parents=True)
        (layer / "lib").mkdir()
    machine = 62 if os.uname().machine != "x86_64" else 183
    (foreign / "python" / "fast.so").write_bytes(b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little"))
    name = declare(layers=(ours, foreign))
    path = ask(service, name, do="path")
    assert path[:2] == [str(tmp_path / name), str(ours / "python")]
    assert str(foreign / "python") not in path
    assert ask(service, name, do="env")["LD_LIBRARY_PATH"] == str(ours / "lib")


def test_nothing_is_written_into_the_asset(
    service: LambdaService, declare: Callable[..., str], tmp_path: Path
) -> None:
    ask(service, declare())
    assert [path.name for path in (tmp_path / "probe").iterdir()] == ["handler.py"]


def test_what_it_prints_and_why_it_failed_is_in_its_log(
    service: LambdaService, declare: Callable[..., str], tmp_path: Path
) -> None:
    name = declare()
    ask(service, name, do="print")
    service.invoke(name, b'{"do": "raise"}')
    log = (tmp_path / "logs" / "probe.log").read_text()
    assert "the handler was here" in log
    assert "ValueError: no such instalment" in log


def test_an_exception_is_an_error_answer_and_keeps_the_process(
    service: LambdaService, declare: Callable[..., str]
) -> None:
    name = declare()
    before = ask(service, name)["pid"]
    failed = service.invoke(name, b'{"do": "raise"}')
    assert failed.error == "ValueError"
    assert json.loads(failed.payload)["errorMessage"] == "no such instalment"
    assert json.loads(failed.payload)["requestId"] == failed.request_id
    assert ask(service, name)["pid"] == before


def test_a_timeout_kills_with_the_words_of_aws_and_the_next_request_works(
    service: LambdaService, declare: Callable[..., str], tmp_path: Path
) -> None:
    name = declare(timeout_s=1)
    before = ask(service, name)["pid"]
    failed = service.invoke(name, b'{"do": "sleep", "seconds": 60}')
    assert failed.error == "Sandbox.Timedout"
    expected = f"RequestId: {failed.request_id} Error: Task timed out after 1.00 seconds"
    assert json.loads(failed.payload)["errorMessage"] == expected
    assert gone(before)
    assert ask(service, name)["pid"] != before
    assert (
        f"{failed.request_id} Task timed out after 1.00 seconds"
        in (tmp_path / "logs" / "probe.log").read_text()
    )


@pytest.mark.parametrize(
    ("status", "reason"),
    [(0, "Runtime exited without providing a reason"), (3, "Runtime exited with error: exit status 3")],
)
def test_a_handler_that_exits_is_an_error_and_is_not_repeated(
    service: LambdaService, declare: Callable[..., str], status: int, reason: str
) -> None:
    name = declare()
    failed = service.invoke(name, json.dumps({"do": "exit", "status": status}).encode())
    assert failed.error == "Runtime.ExitError"
    assert json.loads(failed.payload)["errorMessage"] == f"RequestId: {failed.request_id} Error: {reason}"
    assert ask(service, name)["calls"] == 1


def test_kill_9_between_requests_loses_nothing(service: LambdaService, declare: Callable[..., str]) -> None:
    name = declare()
    seen = set()
    for _ in range(8):
        pid = ask(service, name)["pid"]
        assert pid not in seen
        seen.add(pid)
        os.kill(pid, signal.SIGKILL)
    assert len(seen) == 8


def test_kill_9_racing_the_hand_over_never_repeats_a_request_that_began(
    service: LambdaService, declare: Callable[..., str], tmp_path: Path
) -> None:
    name = declare()
    file, answered = tmp_path / "begun", []
    for number in range(25):
        killer = threading.Timer(number * 0.00006, os.kill, (ask(service, name)["pid"], signal.SIGKILL))
        killer.start()
        event = {"do": "mark", "file": str(file), "seconds": 0.002, "line": str(number)}
        if service.invoke(name, json.dumps(event).encode()).error is None:
            answered.append(str(number))
        killer.join()
    begun = file.read_text().split()
    assert len(begun) == len(set(begun))
    assert set(answered) <= set(begun)


def test_kill_9_while_the_handler_runs_fails_that_request_alone(
    service: LambdaService, declare: Callable[..., str], tmp_path: Path
) -> None:
    name, begun = declare(timeout_s=30), tmp_path / "begun"
    pid = ask(service, name)["pid"]
    with ThreadPoolExecutor(1) as pool:
        event = {"do": "mark", "file": str(begun), "seconds": 30}
        running = pool.submit(service.invoke, name, json.dumps(event).encode())
        wait_for(begun.exists)
        os.kill(pid, signal.SIGKILL)
        failed = running.result()
    assert failed.error == "Runtime.ExitError"
    assert "signal: killed" in json.loads(failed.payload)["errorMessage"]
    assert begun.read_text() == "once\n"
    assert ask(service, name)["calls"] == 1


def test_a_module_that_cannot_be_imported_says_so(
    service: LambdaService, declare: Callable[..., str]
) -> None:
    name = declare(source="import no_such_module")
    for _ in range(2):
        failed = service.invoke(name, b"{}")
        assert failed.error == "Runtime.ImportModuleError"
        assert "No module named 'no_such_module'" in json.loads(failed.payload)["errorMessage"]
    assert service.pids(name) == []


def test_a_module_that_exits_on_import_is_given_up(
    service: LambdaService, declare: Callable[..., str]
) -> None:
    failed = service.invoke(declare(source="import os; os._exit(4)"), b"{}")
    assert failed.error == "Runtime.ExitError"
    assert "exit status 4" in json.loads(failed.payload)["errorMessage"]


def test_an_initialisation_that_hangs_is_ended(
    service: LambdaService, declare: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.lambda_.sandbox.INIT_LIMIT_S", 0.5)
    name = declare(source="import time; time.sleep(60)")
    assert service.invoke(name, b"{}").error == "Sandbox.Timedout"
    assert service.pids(name) == []


def test_the_number_of_processes_stays_under_the_cap(
    service: LambdaService, declare: Callable[..., str]
) -> None:
    name = declare(concurrency=3, timeout_s=20)
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: ask(service, name, do="sleep", seconds=0.05), range(48)))
    assert 2 <= len({answer["pid"] for answer in answers}) <= 3
    assert sorted({answer["pid"] for answer in answers}) == service.pids(name)


def test_a_process_that_is_free_in_a_moment_is_preferred_to_a_cold_one(
    service: LambdaService, declare: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.lambda_.service.GRACE_S", 10.0)
    name = declare(concurrency=8)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(service, name), range(80)))
    assert len({answer["pid"] for answer in answers}) == 1


def test_a_wait_at_the_cap_ends_as_throttled(tmp_path: Path) -> None:
    code = tmp_path / "slow"
    code.mkdir()
    (code / "handler.py").write_text(textwrap.dedent(HANDLER))
    with LambdaService(tmp_path / "logs", patience_s=0.2) as service:
        service.register(FunctionSpec("slow", "handler.handler", code, timeout_s=20, concurrency=1))
        ask(service, "slow")
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(service.invoke, "slow", b'{"do": "sleep", "seconds": 1}')
            wait_for(held.running)
            time.sleep(0.1)
            assert service.invoke("slow", b"{}").error == "TooManyRequestsException"
            assert held.result().error is None


def test_megabytes_pass_and_more_than_lambda_takes_is_refused(
    service: LambdaService, declare: Callable[..., str]
) -> None:
    name = declare(timeout_s=20)
    value = "é" * 500_000
    assert ask(service, name, do="echo", value=value) == value
    assert service.invoke(name, b'"' + b"x" * 7_000_000 + b'"').error == "RequestEntityTooLargeException"
    assert service.invoke(name, b'{"do": "large", "size": 7000000}').error == "Function.ResponseSizeTooLarge"
    assert ask(service, name, do="echo", value=1) == 1


def test_unknown_and_twice_registered_names_are_refused(
    service: LambdaService, declare: Callable[..., str], tmp_path: Path
) -> None:
    name = declare()
    with pytest.raises(UnknownFunction, match="no function prboe is registered; known: probe"):
        service.invoke("prboe", b"{}")
    with pytest.raises(ValueError, match="registered twice"):
        service.register(FunctionSpec(name, "handler.handler", tmp_path))
    with pytest.raises(ValueError, match="make synth"):
        service.register(FunctionSpec("other", "handler.handler", tmp_path / "missing"))


def test_close_ends_idle_and_busy_processes_and_refuses_more(
    service: LambdaService, declare: Callable[..., str], tmp_path: Path
) -> None:
    name, begun = declare(timeout_s=60), tmp_path / "begun"
    with ThreadPoolExecutor(1) as pool:
        event = {"do": "mark", "file": str(begun), "seconds": 60}
        busy = pool.submit(service.invoke, name, json.dumps(event).encode())
        wait_for(begun.exists)
        idle = ask(service, name)["pid"]
        pids = service.pids(name)
        assert idle in pids
        assert len(pids) == 2
        service.close()
        assert busy.result().error == "Runtime.ExitError"
    assert all(gone(pid) for pid in pids)
    assert service.invoke(name, b"{}").error == "ServiceException"


def test_a_handlers_own_children_end_with_it(service: LambdaService, declare: Callable[..., str]) -> None:
    source = """
        import subprocess
        def handler(event, context):
            return subprocess.Popen(["sleep", "60"]).pid
    """
    child = ask(service, declare(source=source))
    assert not gone(child)
    service.close()
    wait_for(lambda: gone(child))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
def test_no_process_survives_the_kill_9_of_its_service(tmp_path: Path) -> None:
    code = tmp_path / "probe"
    code.mkdir()
    (code / "handler.py").write_text(textwrap.dedent(HANDLER))
    program = f"""
import threading, time
from pathlib import Path
from local.lambda_.service import FunctionSpec, LambdaService
service = LambdaService(Path({str(tmp_path / "logs")!r}))
service.register(FunctionSpec("probe", "handler.handler", Path({str(code)!r}), timeout_s=60))
idle = threading.Thread(target=service.invoke, args=("probe", b"{{}}")); idle.start(); idle.join()
busy = threading.Thread(target=service.invoke, args=("probe", b'{{"do": "sleep", "seconds": 60}}'), daemon=True)
busy.start(); time.sleep(0.3)
service.invoke("probe", b"{{}}")
print(*service.pids("probe"), flush=True)
time.sleep(60)
"""
    root = Path(runtime.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    wait_for(lambda: all(gone(pid) for pid in pids))
