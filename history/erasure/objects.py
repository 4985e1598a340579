"""Line-by-line rewriting of archive objects."""

from __future__ import annotations

import gzip
import zlib
from io import BytesIO
from typing import Final

from history.archive.events import ArchiveDamaged
from history.archive.versioned import Change, Remainder
from history.erasure.lines import Rule

GZIP: Final = b"\x1f\x8b"


def changed_lines(rule: Rule, name: str = "") -> Change:
    """Return the change that applies a rule to an object's lines, gzip'd or not.

    Raises ArchiveDamaged for a truncated object.
    """

    def change(body: bytes) -> Remainder:
        zipped = body.startswith(GZIP)
        try:
            text = BytesIO(gzip.decompress(body) if zipped else body)
        except (OSError, EOFError, zlib.error) as error:
            raise ArchiveDamaged(f"{name}: {error}") from error
        pairs = [(line, rule(line)) for line in text]
        left = [after for _, after in pairs if after is not None]
        removed = len(pairs) - len(left)
        rewritten = sum(after is not None and after is not before for before, after in pairs)
        if not removed and not rewritten:
            return Remainder(body)
        rest = b"".join(left)
        return Remainder(gzip.compress(rest, mtime=0) if zipped else rest, removed, rewritten)

    return change
