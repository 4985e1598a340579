"""The commit log read back: which events each item took in, in order of its versions.

Every commit of an item is one line: its key, version (birth, n), the moment it was applied (ms) and the ids of the
events that were new to it. The streams deliver at least once and in any order across objects, so a line may come twice
and late; a version whose predecessors are not all there cannot be replayed.
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
"""Where the archive keeps the log."""


class LogUnusable(Exception):
    """An item cannot be followed up to a version; the message is the reason, one of the two constants below."""


INCOMPLETE: Final = "log incomplete"
CONTRADICTORY: Final = "log contradicts itself"


class Commit(msgspec.Struct, frozen=True):
    """One line: the commit number `n` of an item's birth (ns), its events by `Event.dedup_id`.

    `filled_before`: all archived events of the item that the bus took before that moment (ms) came in as well.
    `rebuilt`: the item was computed anew from what it held, without the voided. `left_out`: events came with these that were
    too late for every window. `unsettled`: voids among the events that took nothing back, for want of proof. `healing`: what came after
    this version was kept apart until the item was rebuilt.
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
    """Commits by item key and birth. `repeated` counts lines that came more than once."""

    def __init__(self) -> None:
        self.repeated = 0
        self._commits: defaultdict[str, dict[Version, Commit]] = defaultdict(dict)
        self._contradicted: set[tuple[str, Version]] = set()

    def add(self, commit: Commit) -> None:
        """Take in one line."""
        version = Version(commit.birth, commit.n)
        known = self._commits[commit.key].setdefault(version, commit)
        if known is commit:
            return
        self.repeated += 1
        if known != commit:
            self._contradicted.add((commit.key, version))

    def follow(self, key: str, birth: int) -> Iterator[Commit]:
        """The commits of one birth of an item, from the first on.

        Raises LogUnusable at a gap, which is never passed over, and where two lines differ: neither is believed. Past the
        last commit there is nothing but a gap.
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
        """The commits that made this version of an item, first to last. Raises LogUnusable."""
        return list(islice(self.follow(key, version.birth), version.n))

    def of(self, key: str) -> list[Commit]:
        """Everything known of an item, in order of its versions."""
        return [commit for _, commit in sorted(self._commits.get(key, {}).items())]

    def __iter__(self) -> Iterator[Commit]:
        return (commit for commits in self._commits.values() for commit in commits.values())


_COMMIT = msgspec.json.Decoder(Commit)


def read_log(
    objects: Objects, keys: Container[str] | None = None, known: CommitLog | None = None
) -> CommitLog:
    """The log in these objects, on top of what is known; only of these items, if told. Raises ArchiveDamaged."""
    log = known or CommitLog()
    for commit in read_lines(objects, _COMMIT):
        if keys is None or commit.key in keys:
            log.add(commit)
    return log
