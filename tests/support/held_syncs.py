"""A disk whose syncs wait or fail when a test says so, for a server of the test's (held_syncs.c)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.lost_writes import gcc
from support.server import until

SOURCE: Final = Path(__file__).with_suffix(".c")


class HeldSyncs:
    """Syncs of the files under `folder`; `told` is a folder of its own."""

    def __init__(self, told: Path, folder: Path) -> None:
        told.mkdir()
        self._told, library = told, told / "held_syncs.so"
        command = [gcc() or "gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        subprocess.run([*command, "-ldl"], check=True, timeout=60)
        self.environment = {
            "LD_PRELOAD": str(library),
            "HELD_SYNCS_FOLDER": str(folder),
            "HELD_SYNCS_TOLD": str(told),
        }

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts a sync does not return."""
        (self._told / "asked").unlink(missing_ok=True)
        with self._there("hold"):
            yield

    @contextmanager
    def failing(self) -> Iterator[None]:
        """While this lasts a sync fails."""
        with self._there("fail"):
            yield

    def is_asked(self) -> bool:
        """Whether a sync has begun since they are held."""
        return (self._told / "asked").exists()

    def until_asked(self) -> None:
        until(self.is_asked)

    @contextmanager
    def _there(self, name: str) -> Iterator[None]:
        (self._told / name).touch()
        try:
            yield
        finally:
            (self._told / name).unlink()
