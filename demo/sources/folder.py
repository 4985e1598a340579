"""Choice of the importer for a folder of data."""

from __future__ import annotations

from pathlib import Path

from demo.sources import superlender
from demo.sources.base import Source, SourceError


def from_folder(folder: Path) -> Source:
    """The source whose files `folder` holds. Raises `SourceError` if no importer recognises the folder."""
    if (folder / superlender.EARLIER).exists() or (folder / superlender.DECIDED).exists():
        return superlender.SuperLender(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; DATA= names the folder of the data")
    raise SourceError(
        f"{folder} holds no data known here; DATA= takes a folder with {superlender.EARLIER} and {superlender.DECIDED}"
    )
