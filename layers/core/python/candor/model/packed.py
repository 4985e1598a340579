"""Safe unpacking of a training job's archive (`model.tar.gz`)."""

from __future__ import annotations

import io
import tarfile
import zlib
from typing import Final

from candor.errors import BundleRefused
from candor.model.bundle import Bundle

MEMBER: Final = "bundle.json"
PACKED: Final = "model.tar.gz"
"""SageMaker's name of the archive."""
MAX_BYTES: Final = 256 * 1024 * 1024


def unpack(archive: bytes) -> Bundle:
    """The bundle in a `model.tar.gz`, read in memory and verified. Raises BundleRefused."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
            member = packed.getmember(MEMBER)
            if member.size > MAX_BYTES:
                raise BundleRefused(f"{MEMBER} is larger than {MAX_BYTES // 1024 // 1024} MB")
            stream = packed.extractfile(member)
            data = stream.read() if stream else b""
    except KeyError as error:
        raise BundleRefused(
            f"model.tar.gz holds no {MEMBER}: the training job did not finish its work"
        ) from error
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise BundleRefused(f"model.tar.gz cannot be read: {error}") from error
    return Bundle.from_bytes(data)
