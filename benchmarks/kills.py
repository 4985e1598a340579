"""Kills of parts of a running local system at random moments of a load."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

UPDATER: Final = "update_features"
SCORER: Final = "score"
STORE: Final = "dynoxide"
PAUSE_S: Final = (0.5, 3.0)
"""Pause between kills (s): long enough to restart, short enough to hit the part while it catches up."""


class Killer:
    """Context manager: kills (-9) the parts in turn until `done`. `killed` counts processes by part."""

    def __init__(
        self,
        pid: int,
        parts: tuple[str, ...] = (UPDATER, STORE),
        seed: int = 1,
        pause_s: tuple[float, float] = PAUSE_S,
        done: Callable[[], bool] = lambda: False,
    ) -> None:
        self.killed: Counter[str] = Counter()
        self._done, self._pause_s = done, pause_s
        self._pid, self._parts, self._random = pid, parts, random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill, name="killer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        turn = 0
        while not self._over.wait(self._random.uniform(*self._pause_s)) and not self._done():
            part = self._parts[turn % len(self._parts)]
            turn += 1
            for pid in processes(self._pid, part):
                with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                    os.kill(pid, signal.SIGKILL)
                    self.killed[part] += 1


def processes(pid: int, part: str) -> list[int]:
    """Pids below a system's process that are workers of this function, or its store."""
    function = f"POWERTOOLS_SERVICE_NAME={part}".encode()
    return [
        child
        for child in descendants(pid)
        if function in _read(child, "environ").split(b"\0")
        or Path(_read(child, "cmdline").split(b"\0")[0].decode(errors="replace")).name == part
    ]


def descendants(pid: int) -> Iterator[int]:
    """Pids of all descendants of a process, without zombies."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents.setdefault(int(parent), []).append(int(folder.name))
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        waiting += children
        yield from children


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
