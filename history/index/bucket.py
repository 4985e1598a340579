"""Access to the archive's bucket for the index: listings, range reads and writes; botocore's errors pass through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, cast

from botocore.exceptions import ClientError

from history.archive.objects import Bucket, Object
from history.index.periods import Stamp

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

GONE: Final = ("NoSuchKey", "404")


class Vanished(Exception):
    """An index object was replaced between listing and reading: list again."""


class Archive(Protocol):
    """Storage of the archive's objects and of its index."""

    def stamps(self, prefix: str, after: str = "") -> Iterator[Stamp]:
        """Yield the objects below a prefix with names after `after`, by name."""
        ...

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        """Yield these objects, whole."""
        ...

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        """Return the last bytes of an object, at most `size`, and its full length. Raises Vanished."""
        ...

    def span(self, name: str, start: int, end: int) -> IO[bytes]:
        """Return the bytes from `start` up to `end`. Raises Vanished."""
        ...

    def put(self, name: str, body: IO[bytes]) -> None:
        """Write an object."""
        ...

    def remove(self, name: str) -> None:
        """Delete all versions of an object, if it exists."""
        ...


class ArchiveBucket:
    """The archive bucket of a stage."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    def stamps(self, prefix: str, after: str = "") -> Iterator[Stamp]:
        """Yield the objects below a prefix with names after `after`, by name."""
        start: Any = {"StartAfter": after} if after else {}
        listing = self._s3.get_paginator("list_objects_v2")
        for page in listing.paginate(Bucket=self._bucket, Prefix=prefix, **start):
            for item in page.get("Contents", ()):
                modified = item["LastModified"].timestamp()
                yield Stamp(item["Key"], item["ETag"], item["Size"], modified)

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        """Yield these objects, prefetching a few."""
        return Bucket(self._s3, self._bucket, "").read(names)

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        """Return the last bytes of an object, at most `size`, and its full length. Raises Vanished."""
        body, length = self._get(name, f"bytes=-{size}")
        return body.read(), length

    def span(self, name: str, start: int, end: int) -> IO[bytes]:
        """Return the bytes from `start` up to `end`. Raises Vanished."""
        return self._get(name, f"bytes={start}-{end - 1}")[0]

    def _get(self, name: str, byte_range: str) -> tuple[IO[bytes], int]:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=name, Range=byte_range)
        except ClientError as error:
            if error.response["Error"]["Code"] in GONE:
                raise Vanished("the index changes while it is read: try again") from error
            raise
        length = int(answer["ContentRange"].rpartition("/")[2])
        return cast("IO[bytes]", answer["Body"]), length

    def put(self, name: str, body: IO[bytes]) -> None:
        """Write an object."""
        self._s3.put_object(Bucket=self._bucket, Key=name, Body=body)

    def remove(self, name: str) -> None:
        """Delete all versions of an object, if it exists: derived data must not outlive an erasure."""
        pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name)
        for page in pages:
            for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if version["Key"] == name:
                    self._s3.delete_object(Bucket=self._bucket, Key=name, VersionId=version["VersionId"])
