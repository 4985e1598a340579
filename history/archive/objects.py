"""Archive objects from a folder or a bucket prefix, under the same names. Nothing is written to disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SUFFIX: Final = ".gz"
AHEAD: Final = 8
"""Objects fetched concurrently: Firehose writes one a minute, and each costs a round trip."""

Object = tuple[str, bytes]
"""An object's name and its bytes, still compressed. Firehose's buffer bounds the bytes."""

Objects = Iterable[Object]
"""Objects in order of their keys, which is order of arrival: Firehose puts the time into the key."""


class Folder:
    """Every object below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Return the paths below the folder, sorted."""
        return [path.relative_to(self._root).as_posix() for path in sorted(self._root.rglob(f"*{SUFFIX}"))]

    def __iter__(self) -> Iterator[Object]:
        return self.read(self.names())

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        """Yield these objects."""
        return ((name, (self._root / name).read_bytes()) for name in names)


class Bucket:
    """Every object under a prefix of a bucket; botocore's errors pass through."""

    def __init__(self, s3: S3Client, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, prefix

    def names(self) -> list[str]:
        """Return the keys, sorted."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        return [
            entry["Key"]
            for page in pages
            for entry in page.get("Contents", ())
            if entry["Key"].endswith(SUFFIX)
        ]

    def __iter__(self) -> Iterator[Object]:
        return self.read(self.names())

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        """Yield these objects, prefetching a few."""
        waiting: deque[Future[Object]] = deque()
        with ThreadPoolExecutor(AHEAD) as pool:
            for name in names:
                waiting.append(pool.submit(self._get, name))
                if len(waiting) == AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _get(self, name: str) -> Object:
        return name, self._s3.get_object(Bucket=self._bucket, Key=name)["Body"].read()
