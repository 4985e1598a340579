"""A Lambda function's declaration, search paths and environment variables."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.assembly.template import REGION

_INHERITED = ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE")
_ELF_MACHINE = {"x86_64": 62, "aarch64": 183, "arm64": 183}
_EXTENSION_TAG = re.compile(r"\.cpython-(\d+)-")


@dataclass(frozen=True)
class FunctionSpec:
    """A function as its template declares it.

    `code` is the asset's folder, `layers` the folders of its layers in template order, `handler` is
    "module.function". `concurrency` bounds the number of sandboxes; `memory_mb` is passed to the handler and not
    enforced.
    """

    name: str
    handler: str
    code: Path
    layers: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: int = 3
    memory_mb: int = 128
    concurrency: int = 10


def _foreign(binary: Path) -> bool:
    """Whether a shared object was built for another machine, system or Python."""
    tag = _EXTENSION_TAG.search(binary.name)
    if tag and tag.group(1) != f"{sys.version_info.major}{sys.version_info.minor}":
        return True
    with binary.open("rb") as stream:
        head = stream.read(20)
    if head[:4] != b"\x7fELF":
        return False  # a linker script or a text stub: harmless
    machine = int.from_bytes(head[18:20], "little")
    return sys.platform != "linux" or machine != _ELF_MACHINE.get(platform.machine())


@functools.cache
def usable_here(layer: Path) -> bool:
    """Whether every binary of a layer runs on this machine; true without binaries."""
    return not any(_foreign(path) for path in layer.rglob("*.so*") if path.is_file())


def search_path(spec: FunctionSpec) -> str:
    """PYTHONPATH: the function's asset, then the layers that run here; the venv replaces the others."""
    layers = [layer / "python" for layer in spec.layers if usable_here(layer)]
    return os.pathsep.join(str(path.resolve()) for path in (spec.code, *layers) if path.is_dir())


def library_path(spec: FunctionSpec) -> str:
    """LD_LIBRARY_PATH: the `lib` folders of the layers that run here; empty without one."""
    libraries = [layer / "lib" for layer in spec.layers if usable_here(layer)]
    return os.pathsep.join(str(path.resolve()) for path in libraries if path.is_dir())


def _credentials() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_SESSION_TOKEN": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _platform_variables(spec: FunctionSpec, region: str) -> dict[str, str]:
    """The variables that Lambda reserves (AWS Lambda developer guide, "Defined runtime environment variables")."""
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{spec.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        "LAMBDA_TASK_ROOT": str(spec.code.resolve()),
        "_HANDLER": spec.handler,
        "TZ": ":UTC",
        "LANG": "C.UTF-8",
    }


def environment(spec: FunctionSpec, endpoints: Mapping[str, str]) -> dict[str, str]:
    """A sandbox's whole environment; from this process it inherits only paths of programs and folders.

    Bytecode is not written, because the asset is part of the unmodified cloud assembly.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    region = endpoints.get("AWS_REGION", REGION)
    paths = {"PYTHONPATH": search_path(spec), "PYTHONDONTWRITEBYTECODE": "1"}
    libraries = library_path(spec)
    if libraries:
        paths["LD_LIBRARY_PATH"] = libraries
    return {
        **inherited,
        **_credentials(),
        **endpoints,
        **spec.environment,
        **_platform_variables(spec, region),
        **paths,
    }
