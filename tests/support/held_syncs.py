"""A disk whose syncs wait or fail when a test says so, for a server of the test's (held_syncs.c)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.shims import compiled

SOURCE: Final = Path(__file__).with_suffix(".c")


class HeldSyncs:
    """Syncs of the files under `folder`; `told` is a folder of its own."""

    def __init__(self, told: Path, folder: Path) -> None:
        told.mkdir()
        self._told = told
        self.environment = {
            "LD_PRELOAD": str(compiled(SOURCE, told / "held_syncs.so")),
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

    @contextmanager
    def _there(self, name: str) -> Iterator[None]:
        (self._told / name).touch()
        try:
            yield
        finally:
            (self._told / name).unlink()
