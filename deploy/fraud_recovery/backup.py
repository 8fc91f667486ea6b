"""One archive of all that a server keeps, made while it serves.

The order is what makes it whole: how far the log has come is noted first, then the store is copied, then the log. A
transaction is recorded before it is logged, so the store's copy has what the log had at the first look, and the copied
log has what the store may lack: a restore replays from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fraud_recovery import files_part, log_part, store_part
from fraud_recovery.archive import Progress, Staging, new_archive, quiet, read_archive
from fraud_recovery.errors import BackupFailed
from fraud_release.trust import TrustSettings
from fraud_scoring.decision_log import Signer, writers
from fraud_server.settings import store_ids

STORE: Final = "store"
LOG: Final = "log"
REGISTRY: Final = "registry"
RELEASES: Final = "releases"
HOME: Final = "home"
LEAVABLE: Final = (STORE, LOG, REGISTRY)
"""Parts that may be left out: who has them elsewhere."""


@dataclass(frozen=True)
class Source:
    """What is backed up: the model repository, the server's home, its store; and whom it trusts."""

    repository: Path
    home: Path
    store_url: str
    release_key: Path | None = None

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def log_key(self) -> Path:
        return self.home / "keys" / "decision-log.key"


@dataclass(frozen=True)
class Backup:
    """An archive that was made; `seconds` it took, `bytes` it holds."""

    archive: Path
    seconds: float
    bytes: int
    files: int
    parts: dict[str, Any]


def back_up(
    source: Source,
    out: Path,
    *,
    with_keys: bool = False,
    without: Collection[str] = (),
    progress: Progress = quiet,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Backup:
    """Make an archive in the folder `out`; it is there under its name once all of it is on the disk and verified."""
    began = time.monotonic()
    trust = TrustSettings.read(source.home, source.release_key, remember=False)
    with new_archive(out, now_us()) as (staging, final):
        public_key = _public_key(source, without)
        if public_key is not None:
            noted = log_part.reached(source.log, public_key)
            staging.parts["noted"] = {name: asdict(one) for name, one in noted.items()}
        if STORE not in without:
            copied = store_part.copy_store(source.store_url, store_ids(source.home), staging.place(STORE), progress)
            staging.parts[STORE] = copied
        if public_key is not None:
            staging.parts[LOG] = log_part.copy_log(source.log, staging.place(LOG), public_key, progress)
        _files(source, staging, trust, with_keys=with_keys, without=without, progress=progress)
    progress(0.9, "verifying the archive")
    manifest = read_archive(final, progress)
    seconds = round(time.monotonic() - began, 2)
    return Backup(final, seconds, manifest.size, len(manifest.files), dict(manifest.parts))


def _files(
    source: Source,
    staging: Staging,
    trust: TrustSettings,
    *,
    with_keys: bool,
    without: Collection[str],
    progress: Progress,
) -> None:
    place = staging.place(RELEASES)
    staging.parts[RELEASES] = files_part.copy_releases(source.repository, place, trust, progress)
    if REGISTRY not in without:
        registry = files_part.copy_registry(source.repository, staging.folder / REGISTRY, progress)
        if registry is not None:
            staging.parts[REGISTRY] = registry
    staging.parts[HOME] = files_part.copy_home(source.home, staging.place(HOME), with_keys=with_keys)


def _public_key(source: Source, without: Collection[str]) -> str | None:
    """The key that the log is verified by; None where no log is to be copied."""
    if LOG in without:
        return None
    if not writers(source.log):
        raise BackupFailed(f"there is no decision log in {source.log}; name the server's --home, or: --without log")
    if not source.log_key.exists():
        raise BackupFailed(
            "the log's key, keys/decision-log.key, is not in the home folder, and without it the log cannot be "
            "verified; put it back, or: --without log"
        )
    return Signer.open(source.log_key).public_key
