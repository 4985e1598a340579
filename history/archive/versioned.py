"""Bucket objects rewritten without one person, in every version that the bucket keeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from candor.errors import StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS: Final = 5
"""Writes of one object lost to another erasure before the job gives up."""

READERS: Final = 8
OVERTAKEN: Final = ("PreconditionFailed", "ConditionalRequestConflict")
KEPT: Final = ("ContentType", "ContentEncoding", "Metadata", "StorageClass")
"""Object attributes that a rewrite preserves."""


class Remainder(NamedTuple):
    """The remaining bytes of an object, and how many of its lines or rows were removed or rewritten."""

    body: bytes
    removed: int = 0
    rewritten: int = 0

    @property
    def changed(self) -> bool:
        return self.removed + self.rewritten > 0


class Unusable(Exception):
    """The object can be neither read nor rewritten: it has to be deleted whole."""


Change = Callable[[bytes], Remainder]
"""A change: an object's bytes → the remainder. Raises Unusable."""


class ObjectVersion(NamedTuple):
    """One version of an object. A delete marker has no bytes."""

    id: str
    latest: bool
    marker: bool


@dataclass
class Findings:
    """Counts of a survey: lines or rows in current versions, old versions, and the keys of all objects concerned."""

    objects: int = 0
    removed: int = 0
    rewritten: int = 0
    old_versions: int = 0
    keys: tuple[str, ...] = ()


class VersionedBucket:
    """One bucket, versioned or not; botocore's errors pass through."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    def versions(self, prefix: str) -> Mapping[str, list[ObjectVersion]]:
        """Return all versions of every object under a prefix, by key."""
        versions: defaultdict[str, list[ObjectVersion]] = defaultdict(list)
        pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Versions", ()):
                versions[entry["Key"]].append(
                    ObjectVersion(entry["VersionId"], entry["IsLatest"], marker=False)
                )
            for gone in page.get("DeleteMarkers", ()):
                versions[gone["Key"]].append(ObjectVersion(gone["VersionId"], gone["IsLatest"], marker=True))
        return versions

    def read(self, key: str, version: str | None = None) -> Mapping[str, Any]:
        """Return an object: S3's response with the bytes as `Body`."""
        parameters: Any = {"Bucket": self._bucket, "Key": key} | ({"VersionId": version} if version else {})
        answer: dict[str, Any] = {**self._s3.get_object(**parameters)}
        answer["Body"] = answer["Body"].read()
        return answer

    def survey(
        self,
        prefix: str,
        change: Callable[[str], Change],
        on_progress: Callable[[int, int], None],
        suffix: str | tuple[str, ...] = "",
    ) -> Findings:
        """Read every version of every matching object; `on_progress` receives (objects read, objects in all)."""
        versions = {
            key: key_versions for key, key_versions in self.versions(prefix).items() if key.endswith(suffix)
        }
        findings = Findings()
        with ThreadPoolExecutor(READERS) as pool:
            seen = pool.map(lambda key: self._seen(key, versions[key], change(key)), versions)
            for number, (key, (left, old)) in enumerate(zip(versions, seen, strict=True), 1):
                on_progress(number, len(versions))
                if left.changed or old:
                    findings.objects += left.changed
                    findings.removed += left.removed
                    findings.rewritten += left.rewritten
                    findings.old_versions += old
                    findings.keys += (key,)
        return findings

    def _seen(self, key: str, versions: Iterable[ObjectVersion], change: Change) -> tuple[Remainder, int]:
        left, old = Remainder(b""), 0
        for version in versions:
            if not version.marker:
                try:
                    remainder = change(self.read(key, version.id)["Body"])
                except Unusable:
                    remainder = Remainder(b"", removed=1)
                if version.latest:
                    left = remainder
                else:
                    old += remainder.changed
        return left, old

    def clean(self, key: str, change: Change) -> int:
        """Rewrite the object and delete the versions that still hold removed content; return how many were deleted.

        After an interruption an old version remains: the next run finds it.
        """
        self._rewrite(key, change)
        return sum(1 for version in self._outdated(key, change) if self._delete(key, version))

    def put(self, key: str, body: bytes, like: Mapping[str, Any]) -> None:
        """Replace exactly the object that was read as `like`. Raises ClientError 412 if it has changed since."""
        kept: Any = {name: like[name] for name in KEPT if like.get(name)}
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, IfMatch=like["ETag"], **kept)

    def remove(self, key: str) -> None:
        """Delete all versions of an object."""
        for version in self.versions(key).get(key, ()):
            self._delete(key, version)

    def expiry_days(self, prefix: str) -> int | None:
        """Return the days after which the bucket's lifecycle expires this exact prefix; None if it does not."""
        try:
            rules = self._s3.get_bucket_lifecycle_configuration(Bucket=self._bucket)["Rules"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchLifecycleConfiguration":
                return None
            raise
        of_prefix = (rule for rule in rules if prefix == rule.get("Filter", rule).get("Prefix"))
        return next((rule["Expiration"]["Days"] for rule in of_prefix if "Expiration" in rule), None)

    def _rewrite(self, key: str, change: Change) -> None:
        for _ in range(ATTEMPTS):
            try:
                before = self.read(key)
                left = change(before["Body"])
                if left.changed:
                    self.put(key, left.body, before)
            except Unusable:
                self.remove(key)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in OVERTAKEN:
                    continue
                if code != "NoSuchKey":  # someone deleted the object, but not its versions
                    raise
            return
        raise StoreUnavailable(f"{ATTEMPTS} concurrent rewrites of one object; run this again")

    def _outdated(self, key: str, change: Change) -> Iterator[ObjectVersion]:
        versions = self.versions(key).get(key, [])
        gone = [
            version
            for version in versions
            if not version.latest and not version.marker and self._holds(key, version, change)
        ]
        yield from gone
        if all(version.marker or version in gone for version in versions):
            # The markers hide nothing any more.
            yield from (version for version in versions if version.marker)

    def _holds(self, key: str, version: ObjectVersion, change: Change) -> bool:
        try:
            return change(self.read(key, version.id)["Body"]).changed
        except Unusable:
            return True

    def _delete(self, key: str, version: ObjectVersion) -> bool:
        self._s3.delete_object(Bucket=self._bucket, Key=key, VersionId=version.id)
        return not version.marker
