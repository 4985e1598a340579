"""Files to import: local ones, of folders, and of S3."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import boto3
import click

from cli.progress import Progress
from history.imports.sql import READERS

S3 = "s3://"


def local_files(paths: Sequence[str], folder: Path, progress: Progress) -> list[Path]:
    """Return the named files, with those of folders and S3 prefixes; S3's are downloaded into `folder`.

    Raises ClickException where there is none.
    """
    files: list[Path] = []
    for path in paths:
        named = _downloaded(path, folder, progress) if path.startswith(S3) else _local(Path(path))
        if not named:
            raise click.ClickException(f"{path}: no file; files end in {', '.join(READERS)}")
        files += named
    return files


def _local(path: Path) -> list[Path]:
    if not path.exists():
        raise click.ClickException(f"{path}: no such file or folder")
    candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file.resolve() for file in candidates if file.is_file() and (file == path or _is_data(file.name))]


def _downloaded(url: str, folder: Path, progress: Progress) -> list[Path]:
    bucket, _, prefix = url.removeprefix(S3).partition("/")
    s3 = boto3.client("s3")
    keys = [key for key in _keys(s3, bucket, prefix) if _is_data(key)]
    files = []
    for number, key in enumerate(progress.each("downloading", keys, len(keys))):
        target = folder / f"{number:06}-{PurePosixPath(key).name}"
        s3.download_file(bucket, key, str(target))
        files.append(target)
    return files


def _keys(s3: object, bucket: str, prefix: str) -> Iterator[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)  # type: ignore[attr-defined] # boto3's client has no type at run time
    return (entry["Key"] for page in pages for entry in page.get("Contents", ()))


def _is_data(name: str) -> bool:
    return name.lower().endswith(tuple(READERS))


def digest_of(mapping: str, files: Sequence[Path]) -> str:
    """Digest (12 hexadecimal digits) of a mapping and of files' contents: the name of their import."""
    whole = hashlib.sha256(mapping.encode())
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()[:12]
