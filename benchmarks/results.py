"""Storage of measurements, with the machine they were made on."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
VERSIONS = ("awslambdaric", "boto3", "lightgbm", "msgspec", "pynamodb", "zen-engine")


def keep(name: str, report: Mapping[str, Any]) -> str:
    """Write a report to benchmarks/results, with its machine; returns it as JSON."""
    text = json.dumps({"benchmark": name, "machine": machine(), **report}, indent=2)
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    (RESULTS / f"{stamp}-{name}.json").write_text(text + "\n", encoding="utf-8")
    return text


def machine() -> dict[str, Any]:
    """Machine and versions that a figure depends on."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in VERSIONS},
    }


def _processor() -> str:
    """The processor's name where the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
