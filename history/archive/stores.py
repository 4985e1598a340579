"""A folder or a bucket as the store of the archive's tables, beside their source objects."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from history.archive.objects import Bucket, Folder, Object
from history.archive.versioned import VersionedBucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class FolderStore:
    """A folder with the bucket's layout."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def stamps(self, prefix: str) -> Mapping[str, str]:
        """Return the names of files below a prefix, with size and modification time."""
        files = (path for path in sorted((self._root / prefix).rglob("*")) if path.is_file())
        return {
            path.relative_to(self._root).as_posix(): f"{path.stat().st_size}/{path.stat().st_mtime_ns}"
            for path in files
        }

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        """Yield these files."""
        return Folder(self._root).read(names)

    def put(self, name: str, body: bytes) -> None:
        """Write a file atomically."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(body)
        part.replace(path)

    def remove(self, name: str) -> None:
        """Delete a file if it exists."""
        (self._root / name).unlink(missing_ok=True)

    def metadata(self, name: str) -> Mapping[bytes, bytes]:
        """Return the Parquet metadata of a file."""
        return pq.read_schema(self._root / name).metadata or {}

    def download(self, name: str, folder: Path) -> Path:
        """Return the file's own path: it need not be copied."""
        return self._root / name


class BucketStore:
    """A bucket, versioned or not; botocore's errors pass through."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3, self._bucket, self._versions = s3, bucket, VersionedBucket(s3, bucket)

    def stamps(self, prefix: str) -> Mapping[str, str]:
        """Return the keys below a prefix, with their entity tags."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", ())}

    def read(self, names: Iterable[str]) -> Iterator[Object]:
        """Yield these objects, prefetching a few."""
        return Bucket(self._s3, self._bucket, "").read(names)

    def put(self, name: str, body: bytes) -> None:
        """Write an object and delete its earlier versions.

        Derived data needs no history and must not outlive an erasure.
        """
        self._s3.put_object(Bucket=self._bucket, Key=name, Body=body)
        for version in self._versions.versions(name).get(name, ()):
            if not version.latest:
                self._s3.delete_object(Bucket=self._bucket, Key=name, VersionId=version.id)

    def remove(self, name: str) -> None:
        """Delete all versions of an object."""
        self._versions.remove(name)

    def metadata(self, name: str) -> Mapping[bytes, bytes]:
        """Return the Parquet metadata of an object."""
        return pq.read_schema(io.BytesIO(self._versions.read(name)["Body"])).metadata or {}

    def download(self, name: str, folder: Path) -> Path:
        """Download an object into a folder."""
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._s3.download_file(self._bucket, name, str(path))
        return path
