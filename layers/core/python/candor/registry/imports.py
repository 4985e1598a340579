"""Bulk imports of past events: at most one is unfinished, so that none is forgotten half applied."""

from __future__ import annotations

from typing import Final, NamedTuple

from candor.errors import CandorError
from candor.registry.registry_table import RegistryItem, RegistryTable

READING, ARCHIVED, DONE = "reading", "archived", "done"
"""States: its rows are being archived; all are archived, and being applied; all are applied."""

_CURRENT: Final = "import"
"""Key of the item that names the last import."""


class ImportUnfinished(CandorError):
    """Another import is unfinished; the message names it and the remedy."""


class ImportRun(NamedTuple):
    """An import: digest of its files and mapping, when it began (ms UTC), its state."""

    id: str
    started_at: int
    state: str


class Imports:
    """The imports of a stage, in the registry's table."""

    def __init__(self, table: str) -> None:
        self._table = RegistryTable(table)

    def find(self, import_id: str) -> ImportRun | None:
        """An import, or None."""
        item = self._table.get(_key(import_id))
        return ImportRun(import_id, int(item.created_at or 0), str(item.state)) if item else None

    def unfinished(self) -> ImportRun | None:
        """The import that began and did not end, or None."""
        item = self._table.get(_CURRENT)
        run = self.find(str(item.run)) if item else None
        return None if run is None or run.state == DONE else run

    def begin(self, import_id: str, at: int) -> ImportRun:
        """Record the start of an import; one already begun keeps its start. Raises ImportUnfinished."""
        free = (
            RegistryItem.pk.does_not_exist() | (RegistryItem.state == DONE) | (RegistryItem.run == import_id)
        )
        if not self._table.note(_CURRENT, free, run=import_id, state=READING):
            other = self.unfinished()
            name = other.id if other else "another"
            raise ImportUnfinished(
                f"import {name} is unfinished: end it first with `candor events import --resume`"
            )
        self._table.note(_key(import_id), RegistryItem.pk.does_not_exist(), state=READING, created_at=at)
        run = self.find(import_id)
        assert run is not None
        return run

    def move(self, run: ImportRun, state: str) -> ImportRun:
        """Record that an import reached a state."""
        self._table.note(_key(run.id), RegistryItem.pk.exists(), state=state, created_at=run.started_at)
        if state == DONE:
            self._table.note(_CURRENT, RegistryItem.run == run.id, run=run.id, state=DONE)
        return run._replace(state=state)


def _key(import_id: str) -> str:
    return f"import#{import_id}"
