"""The backend in C: found ready in an image, else compiled once for this environment."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import fraud_scoring
from fraud_server.errors import CannotServe

LIBRARY: Final = "libtriton_coalesce.so"
SOURCE: Final = Path(fraud_scoring.__file__).parent.parent / "coalesce"
COMPILED: Final = Path(sys.prefix) / "lib" / "fraudserve"
_SECONDS: Final = 120


def coalesce_library(source: Path = SOURCE, compiled: Path = COMPILED) -> Path:
    """The library of the backend whose sources are in `source`; CannotServe where it is not there and cannot be made.

    One beside the sources is taken as it is. Another is kept in `compiled` under the hash of what it was made from.
    """
    ready = source / LIBRARY
    if ready.exists():
        return ready
    digest = hashlib.sha256()
    for part in sorted(path for path in source.iterdir() if path.is_file()):
        digest.update(part.read_bytes())
    wanted = compiled / f"{digest.hexdigest()[:16]}-{LIBRARY}"
    if not wanted.exists():
        _compile(source, wanted)
    return wanted


def _compile(source: Path, wanted: Path) -> None:
    """Make the library; several that do so at once do no harm."""
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=wanted.parent, prefix="compiling-") as folder:
            made = Path(folder) / LIBRARY
            command = [str(source / "build"), str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
            if done.returncode:
                raise CannotServe(
                    f"the backend coalesce cannot be compiled: {_last_line(done.stderr)}; "
                    "it needs a C compiler: apt-get install gcc libc6-dev"
                )
            made.replace(wanted)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotServe(f"the backend coalesce cannot be compiled in {wanted.parent}: {error}") from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["the compiler said nothing"])[-1]


if __name__ == "__main__":
    coalesce_library()
