"""Input and output locations of a job: a folder, or a prefix of a bucket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from history.archive.objects import Bucket, Folder

S3: Final = "s3://"


def objects_at(location: str) -> Folder | Bucket:
    """Archived objects below a folder or an `s3://bucket/prefix`."""
    if not location.startswith(S3):
        return Folder(Path(location))
    import boto3  # the container's own client; a folder needs none

    bucket, prefix = _split(location)
    return Bucket(boto3.client("s3"), bucket, prefix)


@contextmanager
def output_to(location: str) -> Iterator[Path]:
    """A folder to write into, whose files are in `location` at the end. A failed job stores nothing in a bucket."""
    if not location.startswith(S3):
        yield Path(location)
        return
    import boto3

    bucket, prefix = _split(location)
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        s3 = boto3.client("s3")
        for path in sorted(Path(folder).iterdir()):
            s3.upload_file(str(path), bucket, f"{prefix}{path.name}")


def _split(location: str) -> tuple[str, str]:
    url = urlsplit(location)
    prefix = url.path.strip("/")
    return url.netloc, f"{prefix}/" if prefix else ""
