"""Releases on their way: laid out alone to be sent, and put into a repository once they were checked."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fraud_scoring.disk import sync
from fraud_scoring.releases import MANIFEST_FILE, PARTS, ensemble_name, part_name, release_name

STAGING: Final = ".staging-fetch-"


def files_of(repository: Path, release: int) -> list[Path]:
    """Every file of a release, without the bytecode that a server left beside it."""
    folders = [repository / part_name(part, release) for part in PARTS] + [repository / ensemble_name(release)]
    found = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def manifest_digest(repository: Path, release: int) -> str:
    """SHA-256 of the manifest's bytes, which names every file of the release by its own."""
    return hashlib.sha256((repository / ensemble_name(release) / MANIFEST_FILE).read_bytes()).hexdigest()


def lay_out(repository: Path, release: int, folder: Path) -> dict[str, Any]:
    """Copy the files of a release, and nothing else, into `folder`; returns the manifest."""
    for path in files_of(repository, release):
        target = folder / path.relative_to(repository)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target, follow_symlinks=False)
    (folder / ensemble_name(release) / "1").mkdir(exist_ok=True)
    manifest: dict[str, Any] = json.loads((folder / ensemble_name(release) / MANIFEST_FILE).read_bytes())
    return manifest


def install(repository: Path, release: int, download: Callable[[Path], Path], check: Callable[[Path], None]) -> None:
    """Put a release into `repository`, whole or not at all.

    `download` copies it below a staging folder and says where; `check` raises unless it is what it should be. The
    ensemble's folder gets its name last: with it the release exists.
    """
    from fraud_release.assembly import writing_alone  # scikit-learn and more, which nobody else here needs

    with writing_alone(repository):
        staging = repository / f"{STAGING}{release_name(release)}"
        staging.mkdir()
        try:
            folder = download(staging)
            (folder / ensemble_name(release) / "1").mkdir(parents=True, exist_ok=True)  # no store keeps empty folders
            check(folder)
            _seal(folder)
            for name in (*(part_name(part, release) for part in PARTS), ensemble_name(release)):
                (folder / name).rename(repository / name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        sync(repository)


def _seal(folder: Path) -> None:
    """Read-only, and on the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(0o444)
        sync(path)
