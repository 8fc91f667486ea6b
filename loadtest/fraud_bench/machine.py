"""The machine that was measured on, in the words that a reader needs to compare."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil

_TRITON: Final = {"0.7.0": "2.51.0 (NGC 24.10)"}
"""The Triton inside each version of the wheel nvidia-pytriton."""


def describe() -> dict[str, Any]:
    """Cores, model, memory, kernel, and the versions that matter."""
    wheel = metadata.version("nvidia-pytriton")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "triton": _TRITON.get(wheel, f"of nvidia-pytriton {wheel}"),
        "onnxruntime": metadata.version("onnxruntime"),
        "numpy": metadata.version("numpy"),
        "load_average_before": [round(one, 2) for one in os.getloadavg()],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
