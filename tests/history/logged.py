"""A store that also records the log which the table's stream would deliver."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from candor.errors import StoreUnavailable
from candor.store.memory import MemoryFeatureStore
from history.archive.commits import Commit as Logged
from history.archive.commits import CommitLog


class LoggedStore(MemoryFeatureStore):
    """Items are born at `now` (ms); after `crash_after` commits nothing is written any more."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.log: defaultdict[str, list[Logged]] = defaultdict(list)
        self.crash_after: int | None = None
        self._births = self._moments()

    def _moments(self) -> Iterator[int]:
        number = 0
        while True:
            number += 1
            yield self.now * 1_000_000 + number

    def commit(self, commit):
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                raise StoreUnavailable("gone")
        return super().commit(commit)

    def _write(self, commit):
        version = super()._write(commit)
        flags = commit.filled_before, commit.rebuilt, commit.left_out, list(commit.unsettled), commit.healing
        line = Logged(commit.key, version.birth, version.n, commit.applied_at, list(commit.event_ids), *flags)
        self.log[commit.key].append(line)
        return version


def log_of(*stores: LoggedStore) -> CommitLog:
    log = CommitLog()
    for store in stores:
        for commits in store.log.values():
            for commit in commits:
                log.add(commit)
    return log
