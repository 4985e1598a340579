"""The commit log: which events each item applied, in order of its versions.

Each commit of an item is one line: its key, version (birth, n), the time it was applied (ms) and the ids of the
events that were new to it. Streams deliver at least once and in any order across objects, so a line may be duplicated
and late. A version cannot be replayed unless all its predecessors are present.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator
from itertools import count, islice
from typing import Final

import msgspec

from candor.features.vector import Version
from history.archive.events import read_lines
from history.archive.objects import Objects

COMMITS_PREFIX: Final = "commits/"
"""Archive prefix of the commit log."""


class LogUnusable(Exception):
    """An item's commits cannot be followed up to a version; the message is one of the two reasons below."""


INCOMPLETE: Final = "log incomplete"
CONTRADICTORY: Final = "log contradicts itself"


class Commit(msgspec.Struct, frozen=True):
    """One line: commit number `n` of an item's birth (ns), its events by `Event.dedup_id`.

    `filled_before`: all archived events of the item that the bus accepted before that time (ms) were applied as well.
    `rebuilt`: the item was recomputed from its events, without the voided ones. `left_out`: the batch held events too
    late for every window. `unsettled`: voids that took nothing back, for lack of proof. `healing`: later events are
    kept apart until the item is rebuilt.
    """

    key: str
    birth: int
    n: int
    applied_at: int
    event_ids: list[str]
    filled_before: int | None = None
    rebuilt: bool = False
    left_out: bool = False
    unsettled: list[str] = []
    healing: bool = False


class CommitLog:
    """Commits by item key and birth. `repeated` counts duplicate lines."""

    def __init__(self) -> None:
        self.repeated = 0
        self._commits: defaultdict[str, dict[Version, Commit]] = defaultdict(dict)
        self._contradicted: set[tuple[str, Version]] = set()

    def add(self, commit: Commit) -> None:
        """Add one line."""
        version = Version(commit.birth, commit.n)
        known = self._commits[commit.key].setdefault(version, commit)
        if known is commit:
            return
        self.repeated += 1
        if known != commit:
            self._contradicted.add((commit.key, version))

    def follow(self, key: str, birth: int) -> Iterator[Commit]:
        """Yield the commits of one birth of an item, from the first on.

        Raises LogUnusable at a gap, which is never skipped, and where two lines of one version differ. The end of the
        known commits is a gap as well.
        """
        known = self._commits.get(key, {})
        for n in count(1):
            version = Version(birth, n)
            if version not in known:
                raise LogUnusable(INCOMPLETE)
            if (key, version) in self._contradicted:
                raise LogUnusable(CONTRADICTORY)
            yield known[version]

    def up_to(self, key: str, version: Version) -> list[Commit]:
        """Return the commits that made this version of an item, first to last. Raises LogUnusable."""
        return list(islice(self.follow(key, version.birth), version.n))

    def of(self, key: str) -> list[Commit]:
        """Return all known commits of an item, in order of version."""
        return [commit for _, commit in sorted(self._commits.get(key, {}).items())]

    def __iter__(self) -> Iterator[Commit]:
        return (commit for commits in self._commits.values() for commit in commits.values())


_COMMIT = msgspec.json.Decoder(Commit)


def read_log(
    objects: Objects, keys: Container[str] | None = None, known: CommitLog | None = None
) -> CommitLog:
    """Add the commits in these objects, of `keys` alone if given, to `known` or a new log. Raises ArchiveDamaged."""
    log = known or CommitLog()
    for commit in read_lines(objects, _COMMIT):
        if keys is None or commit.key in keys:
            log.add(commit)
    return log
