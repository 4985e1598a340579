"""Choice of the mapping for a folder of data."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from demo.sources.base import Source, SourceError
from demo.sources.mapped import MappedSource
from history.imports.mapping import read_mapping
from lender import DEFINITIONS

MAPPINGS: Final = Path(__file__).resolve().parents[1] / "mappings"
"""Mappings of public data sets."""

OWN: Final = "mapping.toml"
"""Name of a folder's own mapping."""


def from_folder(folder: Path) -> Source:
    """The source of a folder by its own mapping, or by that of a public data set whose files it holds.

    Raises `SourceError` if there is none.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; DATA= names the folder of the data")
    own = folder / OWN
    if own.exists():
        return MappedSource(folder.resolve().name, folder, own)
    for mapping in sorted(MAPPINGS.glob("*.toml")):
        rows = read_mapping(mapping.read_text(encoding="utf-8"), DEFINITIONS).rows
        if all(any(folder.glob(each.files)) for each in rows.values()):
            return MappedSource(mapping.stem, folder, mapping)
    raise SourceError(
        f"{folder} holds no data known here: write {OWN} beside its files (docs/how-to/import-events.md)"
    )
