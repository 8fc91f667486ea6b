"""A copy of a release for one server: of the bytes that were verified, so that nothing that is changed later counts.

Written under a staging name and renamed, the ensemble last, as when the release was made: what an interrupted copy
leaves is no release.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fraud_release.assembly import STAGING, write_sealed
from fraud_release.signing import Verified, verified_contents
from fraud_release.trust import TrustSettings
from fraud_scoring.disk import sync
from fraud_scoring.releases import ensemble_name, release_name


def copy_release(repository: Path, number: int, trust: TrustSettings, target: Path) -> Verified:
    """Verify release `number` of `repository` and write what was verified into `target`, in place of what is there."""
    verified, contents = verified_contents(repository, number, trust)
    place_release(number, contents, target)
    return verified


def place_release(number: int, contents: Mapping[str, bytes], target: Path) -> None:
    """Write the files of release `number`, by their paths, into `target`, in place of what is there."""
    ensemble = ensemble_name(number)
    staging = target / f"{STAGING}{release_name(number)}-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for path, content in contents.items():
            write_sealed(staging / path, content)
        (staging / ensemble / "1").mkdir()
        for folder in (*staging.rglob("*/"), staging):
            sync(folder)
        parts = sorted({path.split("/", 1)[0] for path in contents} - {ensemble})
        for name in (ensemble, *parts):
            shutil.rmtree(target / name, ignore_errors=True)
        for name in (*parts, ensemble):
            (staging / name).rename(target / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync(target)
