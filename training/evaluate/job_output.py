"""Output of a training job: `model.tar.gz` with the bundle and every seed's models, treated as untrusted input."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath

from candor.errors import BundleRefused
from candor.model.bundle import Bundle
from candor.model.packed import MAX_BYTES, unpack

ARCHIVE = "model.tar.gz"


@dataclass(frozen=True)
class JobOutput:
    """The bundle, and each seed's model of the earlier part as text; the serving seed comes first."""

    bundle: Bundle
    validation: dict[int, str]

    @classmethod
    def read(cls, archive: bytes) -> JobOutput:
        """Read the archive's bytes. Raises BundleRefused if the bundle or a seed's model is missing."""
        bundle = unpack(archive)
        models = _models(archive, "validation")
        seeds = [int(seed) for seed in bundle.lineage["seeds"]]
        missing = [str(seed) for seed in seeds if seed not in models]
        if missing or not seeds:
            raise BundleRefused(
                f"model.tar.gz holds no validation model of seed {', '.join(missing)}: train again"
            )
        return cls(bundle, {seed: models[seed] for seed in seeds})


def _models(archive: bytes, folder: str) -> dict[int, str]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
        return {
            int(PurePosixPath(member.name).stem): _text(packed, member)
            for member in packed.getmembers()
            if member.isfile() and PurePosixPath(member.name).parent.name == folder
        }


def _text(packed: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = packed.extractfile(member)
    if stream is None or member.size > MAX_BYTES:
        raise BundleRefused(f"model.tar.gz: {member.name} cannot be read or is too large")
    return stream.read().decode()
