"""An archive put back: everything in it verified first, nothing of the target overwritten, completed from the log.

While it goes on, the home holds a marker, and `fraudctl serve` does not start from it; an interrupted restore is begun
anew by the same command, which puts aside what the first one had brought. What is replaced is renamed, never removed.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from fraud_recovery import files_part, log_part, store_part
from fraud_recovery.archive import Manifest, Progress, copy_file, quiet, read_archive
from fraud_recovery.backup import HOME, LOG, REGISTRY, RELEASES, STORE
from fraud_recovery.errors import ArchiveRefused, RestoreRefused
from fraud_recovery.log_replay import OVERLAP_US, Replayed, replay
from fraud_release.registry.catalogue import EMBEDDED_FOLDER
from fraud_release.trust import KEYS_FOLDER, PUBLIC_KEY_FILE, TrustSettings, pinned_key_file, read_public_keys
from fraud_scoring.decision_log import Signer, writers
from fraud_scoring.disk import sync
from fraud_scoring.releases import pinned_schema
from fraud_scoring.routes import Routes
from fraud_scoring.schema import united
from fraud_scoring.stores import open_store
from fraud_scoring.stores.redis.address import is_redis
from fraud_server.preflight import LOCK_FILE
from fraud_server.settings import RESTORING_FILE, store_ids

LOG_KEY: Final = "decision-log.key"
PARTS: Final = (STORE, LOG, RELEASES, REGISTRY)


@dataclass(frozen=True)
class Target:
    """Where an archive is put, and what is wanted.

    `log_key`: the log's public key, where it is known from elsewhere. `surviving_log`: a log that outlived the store,
    with what came after the archive; it is used in place of the archive's. `replace`: what is there is put aside.
    `rebuild_store`: build the store from the whole log, and not from the archive's copy. `only`: the parts that are
    wanted; the log that the home then has completes the store in any case.
    """

    repository: Path
    home: Path
    store_url: str
    release_key: Path | None = None
    log_key: str | None = None
    surviving_log: Path | None = None
    replace: bool = False
    rebuild_store: bool = False
    only: frozenset[str] = frozenset(PARTS)

    @property
    def fills_store(self) -> bool:
        """Whether the store must be empty before."""
        return self.rebuild_store or STORE in self.only

    @property
    def log(self) -> Path:
        return self.home / "log"


@dataclass(frozen=True)
class Restored:
    """What was put back: `seconds` in all, of which `verifying`, `copying` and `replaying` (LMDB or Redis, from the
    log); `put_aside` names what was there before."""

    archive_at_us: int
    kept_until_us: int
    seconds: float
    verifying: float
    copying: float
    replaying: float
    bytes: int
    replay: Replayed | None
    put_aside: list[str]


@dataclass(frozen=True)
class Checked:
    """An archive whose every part was verified."""

    manifest: Manifest
    public_key: str | None
    routes: Routes


def check_archive(archive: Path, target: Target, progress: Progress = quiet) -> Checked:
    """Verify all of an archive: hashes, the log's chain and signatures, releases, audit, store. Touches nothing."""
    manifest = read_archive(archive, progress)
    public_key = _log_key(archive, manifest, target)
    if public_key is not None and LOG in manifest.parts:
        progress(0.3, "verifying the archive's log")
        log_part.check_log(archive / LOG, public_key, "the archive's log")
    if STORE in manifest.parts:
        store_part.check_store(archive / STORE, manifest.parts[STORE])
    if REGISTRY in manifest.parts:
        files_part.check_registry(archive / REGISTRY)
    routes = files_part.check_releases(archive / RELEASES, _trust(archive, target))
    return Checked(manifest, public_key, routes)


def restore(
    archive: Path,
    target: Target,
    progress: Progress = quiet,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Restored:
    """Put an archive back. ArchiveRefused or RestoreRefused: nothing was touched."""
    began = time.monotonic()
    checked = check_archive(archive, target, progress)
    _check_not_running(target.home)
    _check_log_that_completes(archive, target, checked)
    _check_key(archive, target, checked)
    in_the_way = _in_the_way(archive, checked.manifest, target)
    unfinished = (target.home / RESTORING_FILE).exists()
    if in_the_way and not (target.replace or unfinished):
        raise RestoreRefused(
            f"the target is not empty: {', '.join(path.name for path in in_the_way)}; restore into another place, or "
            "put aside what is there: --replace"
        )
    store_kind = checked.manifest.parts.get(STORE, {}).get("kind")
    if target.rebuild_store or STORE not in target.only:
        store_kind = None
    if target.fills_store:
        store_part.check_target(target.store_url, store_kind)
    verified = time.monotonic()
    _mark(target, archive)
    moment = now_us()
    aside = [str(_put_aside(path, moment)) for path in in_the_way]
    _put(archive, target, checked, store_kind, progress)
    copied = time.monotonic()
    replayed = _replay(target, checked, progress, whole=target.fills_store and store_kind is None)
    (target.home / RESTORING_FILE).unlink()
    sync(target.home)
    ended = time.monotonic()
    return Restored(
        archive_at_us=checked.manifest.at_us,
        kept_until_us=replayed.last_at_us if replayed and replayed.last_at_us else checked.manifest.at_us,
        seconds=round(ended - began, 2),
        verifying=round(verified - began, 2),
        copying=round(copied - verified, 2),
        replaying=round(ended - copied, 2),
        bytes=checked.manifest.size,
        replay=replayed,
        put_aside=aside,
    )


def _put(archive: Path, target: Target, checked: Checked, store_kind: str | None, progress: Progress) -> None:
    files_part.put_home(archive / HOME, target.home)
    if LOG in checked.manifest.parts and LOG in target.only and target.surviving_log is None:
        progress(0.4, "log")
        for path in sorted(one for one in (archive / LOG).rglob("*") if one.is_file()):
            copy_file(path, target.log / path.relative_to(archive / LOG))
    elif target.surviving_log is not None and not target.log.exists():
        target.log.symlink_to(target.surviving_log.absolute(), target_is_directory=True)
    if store_kind is not None:
        store_part.put_store(archive / STORE, target.store_url, progress)
    if RELEASES in target.only:
        progress(0.6, "releases")
        files_part.put_releases(archive / RELEASES, target.repository)
    if REGISTRY in checked.manifest.parts and REGISTRY in target.only:
        files_part.put_registry(archive / REGISTRY, target.repository)


def _replay(target: Target, checked: Checked, progress: Progress, *, whole: bool) -> Replayed | None:
    """Complete the store from the log that is now in the home, the `whole` of it or what is new; None: no log."""
    if not writers(target.log):
        return None
    progress(0.7, "replaying the log")
    schema = united(pinned_schema(target.repository, number) for number in Routes.read(target.repository).loaded)
    noted = checked.manifest.parts.get("noted")
    after = {name: int(one["sequence"]) for name, one in noted.items()} if noted is not None and not whole else None
    since_us = checked.manifest.at_us - OVERLAP_US
    store = open_store(target.store_url, schema, store_ids(target.home), filling=True)
    try:
        return replay(target.log, store, schema, after, since_us, progress)
    finally:
        store.close()


def _trust(archive: Path, target: Target) -> TrustSettings:
    """Whom the target trusts; a target that trusts nobody yet believes the archive, as a first start does."""
    pinned = target.release_key or pinned_key_file(target.home)
    if not pinned.exists():
        pinned = archive / HOME / KEYS_FOLDER / PUBLIC_KEY_FILE
    return TrustSettings(read_public_keys(pinned))


def _log_key(archive: Path, manifest: Manifest, target: Target) -> str | None:
    """The public key that the log must be signed by: the caller's, the target's own, or else the archive's word."""
    if LOG not in manifest.parts and target.surviving_log is None:
        return None
    said = manifest.parts[LOG]["public_key"] if LOG in manifest.parts else None
    own = target.home / KEYS_FOLDER / LOG_KEY
    known = target.log_key or (Signer.open(own).public_key if own.exists() else None)
    if known is not None and said is not None and known.lower() != said:
        raise ArchiveRefused(
            "the archive's log is signed by another key than the one that is known here; restore the archive of this "
            "server, or remove the key from the home folder if it is a new one"
        )
    if (found := known or said) is None:
        raise ArchiveRefused("no key is known for the surviving log; name its public key with --log-key")
    return found.lower()


def _check_key(archive: Path, target: Target, checked: Checked) -> None:
    """A log that goes on needs its private key: a new one would make all that is signed look forged."""
    names = (target.home / KEYS_FOLDER / LOG_KEY, archive / HOME / KEYS_FOLDER / LOG_KEY)
    writes_on = LOG in target.only or target.surviving_log is not None
    if writes_on and checked.public_key is not None and not any(path.exists() for path in names):
        raise RestoreRefused(
            f"the key that signs the log is neither in the archive nor in the home: put {KEYS_FOLDER}/{LOG_KEY} back "
            "from where your secrets are kept, or make archives with it: fraudctl backup --with-keys"
        )


def _check_log_that_completes(archive: Path, target: Target, checked: Checked) -> None:
    """The log that is replayed, where it is not the archive's: the surviving one, or the one that stays in the home."""
    own = target.home / KEYS_FOLDER / LOG_KEY
    if target.surviving_log is None:
        if LOG not in target.only and writers(target.log) and own.exists():
            log_part.check_log(target.log, Signer.open(own).public_key, "the home's log")
        return
    assert checked.public_key is not None
    if not writers(target.surviving_log):
        raise RestoreRefused(f"{target.surviving_log} is no decision log; name the folder that holds front-door-0")
    log_part.check_log(target.surviving_log, checked.public_key, "the surviving log")
    if LOG in checked.manifest.parts:
        log_part.continues(archive / LOG, target.surviving_log)


def _in_the_way(archive: Path, manifest: Manifest, target: Target) -> list[Path]:
    """What is there where the archive is to be put."""
    found = []
    if (
        target.fills_store
        and not is_redis(target.store_url)
        and any(store_part.folder_of(target.store_url).glob("*.mdb"))
    ):
        found.append(store_part.folder_of(target.store_url))
    if target.surviving_log is None:
        found += [target.log] if LOG in manifest.parts and LOG in target.only and writers(target.log) else []
    elif target.log.exists() and not target.log.samefile(target.surviving_log):
        found.append(target.log)
    if REGISTRY in manifest.parts and REGISTRY in target.only and (target.repository / EMBEDDED_FOLDER).exists():
        found.append(target.repository / EMBEDDED_FOLDER)
    return found + (files_part.clashing(archive / RELEASES, target.repository) if RELEASES in target.only else [])


def _put_aside(path: Path, now_us: int) -> Path:
    """Into a folder beside it: a release's name may not stand at the top of a repository, whatever follows it."""
    stamp = datetime.fromtimestamp(now_us / 1e6, timezone.utc).strftime("%Y%m%dT%H%M%S%f")
    aside = path.with_name(f".before-{stamp}")
    aside.mkdir(exist_ok=True)
    return path.rename(aside / path.name)


def _check_not_running(home: Path) -> None:
    lock = home / "run" / LOCK_FILE
    if not lock.exists():
        return
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RestoreRefused(f"a server runs with folder {home}; end it first") from None


def _mark(target: Target, archive: Path) -> None:
    target.home.mkdir(parents=True, exist_ok=True)
    marker = target.home / RESTORING_FILE
    marker.write_text(json.dumps({"archive": archive.name}) + "\n", encoding="utf-8")
    sync(marker)
    sync(target.home)
