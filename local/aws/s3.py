"""S3 objects on disk at `.local/s3/<bucket>/<key>`, restored at a restart."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from local.state import Journal

_LONGEST_NAME = 200


class ObjectMirror:
    """The latest version of every object; the journal maps keys to files."""

    def __init__(self, root: Path, journal: Journal) -> None:
        self._root = root
        self._journal = journal
        self._lock = threading.Lock()

    def save(self, bucket: str, key: str, content: bytes) -> None:
        """Write an object atomically to disk."""
        with self._lock:
            path = self._path(bucket, key)
            draft = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}.part")
            draft.write_bytes(content)
            draft.replace(path)
            with self._journal.transaction() as db:
                row = (bucket, key, str(path.relative_to(self._root)))
                db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", row)

    def forget(self, bucket: str, key: str) -> None:
        """Delete an object; a missing one is no error."""
        with self._lock:
            path = self.file(bucket, key)
            with self._journal.transaction() as db:
                db.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))
            if path is not None:
                path.unlink(missing_ok=True)

    def file(self, bucket: str, key: str) -> Path | None:
        """The file of an object; None when there is none."""
        rows = self._journal.rows("SELECT file FROM objects WHERE bucket = ? AND key = ?", bucket, key)
        return self._root / str(rows[0][0]) if rows else None

    def contents(self, bucket: str, prefix: str = "") -> Iterator[tuple[str, Path]]:
        """Keys and files of a bucket in key order."""
        query = "SELECT key, file FROM objects WHERE bucket = ? ORDER BY key"
        for key, file in self._journal.rows(query, bucket):
            if str(key).startswith(prefix):
                yield str(key), self._root / str(file)

    def _path(self, bucket: str, key: str) -> Path:
        """A readable path if the file system allows it, else a path by the key's hash."""
        parts = [quote(part, safe="=+@,~") for part in key.split("/")]
        readable = all(part.strip(".") and len(part) <= _LONGEST_NAME for part in parts)
        path = self._root.joinpath(bucket, *parts) if readable else self._hashed(bucket, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            path = self._hashed(bucket, key)
        if path.is_dir():
            path = self._hashed(bucket, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _hashed(self, bucket: str, key: str) -> Path:
        return self._root / bucket / ".hashed" / hashlib.sha256(key.encode()).hexdigest()
