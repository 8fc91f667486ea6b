"""Libraries in C that a test puts before the real ones: compiled when they are needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def gcc() -> str | None:
    return shutil.which("gcc")


def compiled(source: Path, library: Path) -> Path:
    """`library`, made of the C file `source`."""
    command = [gcc() or "gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True, timeout=60)
    return library
