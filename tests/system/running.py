"""The local system as a user starts it: one command on a state folder, what it prints, and signals."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kills import descendants, processes
from benchmarks.load import Door, door_in
from local.state import Journal

ROOT = Path(__file__).resolve().parents[2]
CODE = ("", "layers/core/python", "layers/lender/python")
PATIENCE_S = 240
UNWANTED = ("AWS_", "ONCE", "SIZE", "DATA", "PORT", "PYTHONDONTWRITEBYTECODE", "COV_")


@dataclass(frozen=True)
class Ended:
    """End of a run: its exit code, the processes that it left behind, and its output."""

    code: int
    orphans: list[int]
    stdout: str
    stderr: str


def environment(root: Path = ROOT, **given: str) -> dict[str, str]:
    """Environment of a user's shell for the tree `root`: no AWS account, no variables of the tests."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(UNWANTED)}
    return {**kept, "PYTHONPATH": os.pathsep.join(str(root / code) for code in CODE), **given}


class Running:
    """`python -m demo` in the background."""

    def __init__(
        self,
        assembly: Path,
        state: Path,
        port: int = 0,
        logs: Path | None = None,
        root: Path = ROOT,
        **variables: str,
    ) -> None:
        self.state = state
        state.mkdir(parents=True, exist_ok=True)
        self._out, self._err = (logs or state) / "stdout.txt", (logs or state) / "stderr.txt"
        command = [sys.executable, "-m", "demo"]
        command += ["--assembly", str(assembly), "--state", str(state), "--port", str(port)]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=root, env=environment(root, **variables), stdout=out, stderr=err
            )

    # Output

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def line(self, start: str) -> str:
        """The first line of the output that begins with `start`."""
        return next(line for line in self.stdout.splitlines() if line.startswith(start))

    @property
    def url(self) -> str:
        return self.line("READY http://").removeprefix("READY ")

    @property
    def curl(self) -> str:
        return self.line("curl ")

    @property
    def door(self) -> Door:
        return door_in(self.curl)

    # Progress

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait until `reached`; fails, with the output, if the run ends before."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            ended = self.process.poll() is not None
            assert not ended, f"ended before {what}: {self.stdout[-1500:]}{self.stderr[-1500:]}"
            assert time.monotonic() < deadline, f"no {what} within {PATIENCE_S} s: {self.stdout[-1500:]}"
            time.sleep(0.004)

    def until_ready(self) -> "Running":
        self.until(lambda: "\nREADY http://" in self.stdout and self.stdout.endswith("\n"), "READY")
        return self

    def applied(self) -> int:
        """Least number of events of the history that were sent and have left the queue."""
        progress = self.state / "journey" / "progress.json"
        if not progress.exists():
            return 0
        with closing(sqlite3.connect(f"file:{self.state}/journal.sqlite?mode=ro", uri=True)) as journal:
            waiting = journal.execute("SELECT COUNT(*) FROM messages").fetchone()[0]
        return int(json.loads(progress.read_text())["published"] - waiting)

    def answered(self) -> int:
        """Number of lines in the file of answers."""
        answers = self.state / "journey" / "answers.jsonl"
        return answers.read_bytes().count(b"\n") if answers.exists() else 0

    def training(self) -> bool:
        """True once the training job of any run has begun, until its model is stored."""
        return any(self.state.glob("logs/jobs/*train.log")) and not any(self.state.glob("s3/*/runs/*/model"))

    # Ending

    def end(self, number: int) -> Ended:
        """Send a signal to the main process only. It is stopped first, so that no child escapes the count."""
        if number == signal.SIGKILL:
            self.process.send_signal(signal.SIGSTOP)
        children = list(descendants(self.process.pid))
        self.process.send_signal(number)
        code = self.process.wait(30)
        return Ended(code, left_of(children), self.stdout, self.stderr)

    def result(self) -> Ended:
        """Wait until the run ends by itself."""
        return Ended(self.process.wait(PATIENCE_S), [], self.stdout, self.stderr)

    def workers(self, function: str) -> list[int]:
        """Process ids of one function."""
        return processes(self.process.pid, function)


def left_of(pids: list[int], seconds: float = 5) -> list[int]:
    """Processes that are still alive after `seconds`."""
    deadline = time.monotonic() + seconds
    while (living := [pid for pid in pids if _lives(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return living


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def adopt_secrets(source: Path, target: Path) -> None:
    """Copy the secrets of one state folder to a new one, so that both derive the same decision ids."""
    with closing(sqlite3.connect(f"file:{source}/journal.sqlite?mode=ro", uri=True)) as journal:
        rows = journal.execute("SELECT name, value FROM secrets").fetchall()
    target.mkdir(parents=True)
    journal_of_target = Journal(target / "journal.sqlite")
    with journal_of_target.transaction() as db:
        db.executemany("INSERT INTO secrets VALUES (?, ?)", rows)
    journal_of_target.close()
