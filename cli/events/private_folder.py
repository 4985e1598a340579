"""Temporary folder for personal data: this user alone reads it, and none outlives its process for long."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PREFIX: Final = f"candor-{os.getuid()}-"
_LOCK: Final = "lock"


@contextmanager
def private_folder() -> Iterator[Path]:
    """An empty folder, removed at the end. Those of killed processes are removed first."""
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with (folder / "locking").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "locking").rename(folder / _LOCK)  # so that nobody sees it unlocked
            inner = folder / "data"
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(folder)


def _sweep(parent: Path) -> None:
    """Remove folders whose process holds their lock no longer."""
    for path in parent.glob(f"{PREFIX}*/{_LOCK}"):
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path.parent)
