"""Releases, route table, registry, and what a home remembers: copied, verified by their own signatures, put back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from fraud_recovery.archive import Progress, copy_file
from fraud_recovery.errors import ArchiveRefused, BackupFailed
from fraud_release import assembly
from fraud_release.registry.book import read_book
from fraud_release.registry.catalogue import AUDIT_FILE, EMBEDDED_FOLDER
from fraud_release.registry.home import HEADS_FILE, TRUSTED_FILE
from fraud_release.signing import verified_contents, verify_release
from fraud_release.statement import SIGNATURE_FILE
from fraud_release.trust import KEYS_FOLDER, PUBLIC_KEY_FILE, RECORD_FILE, TrustSettings
from fraud_scoring.disk import sync
from fraud_scoring.releases import PARTS, ensemble_name, existing, part_name, release_name
from fraud_scoring.routes import ROUTES_FILE, Routes

CATALOGUE_FILE: Final = "mlflow.sqlite"
ARTIFACTS: Final = "artifacts"
REMEMBERED: Final = (
    f"{KEYS_FOLDER}/{PUBLIC_KEY_FILE}",
    f"{KEYS_FOLDER}/{RECORD_FILE}",
    f"{KEYS_FOLDER}/{TRUSTED_FILE}",
    HEADS_FILE,
    "judge/judge.jsonl",
)
"""Files of a home that are no secret; `store-ids/` is beside them."""
IDS_FOLDER: Final = "store-ids"
PRIVATE: Final = "*.key"
_ATTEMPTS: Final = 5


def copy_releases(repository: Path, target: Path, trust: TrustSettings, progress: Progress) -> dict[str, Any]:
    """Copy the route table and every release, of the bytes that its signature vouches for."""
    routes = Routes.read(repository)
    numbers = existing(repository)
    for place, number in enumerate(numbers):
        progress(place / len(numbers), f"release {release_name(number)}")
        for path, content in verified_contents(repository, number, trust)[1].items():
            assembly.write_sealed(target / path, content)
        (target / ensemble_name(number) / "1").mkdir(exist_ok=True)  # Triton wants it, and it is empty
    (target / ROUTES_FILE).write_text(routes.to_json(), encoding="utf-8")
    return {
        "releases": [release_name(number) for number in numbers],
        "production": release_name(routes.production),
        "epoch": routes.epoch,
    }


def check_releases(folder: Path, trust: TrustSettings) -> Routes:
    """The archive's route table, once each of its releases was verified; ArtifactRefused names what is wrong."""
    for number in existing(folder):
        (folder / ensemble_name(number) / "1").mkdir(exist_ok=True)  # archives keep files, and it holds none
        verify_release(folder, number, trust)
    return Routes.read(folder)


def clashing(folder: Path, repository: Path) -> list[Path]:
    """What lies in a repository under the name of an archived release, and is another one; and another route table."""
    found = []
    for number in existing(folder):
        signature = f"{ensemble_name(number)}/{SIGNATURE_FILE}"
        there = repository / signature
        if number in existing(repository) and (
            not there.exists() or there.read_bytes() != (folder / signature).read_bytes()
        ):
            found += [repository / name for name in _folders(number) if (repository / name).exists()]
    routes = repository / ROUTES_FILE
    if routes.exists() and routes.read_bytes() != (folder / ROUTES_FILE).read_bytes():
        found.append(routes)
    return found


def put_releases(folder: Path, repository: Path) -> None:
    """Put what the repository lacks of the archived releases into it, and the route table last."""
    with assembly.writing_alone(repository):
        for number in set(existing(folder)) - set(existing(repository)):
            for name in _folders(number):
                shutil.copytree(folder / name, repository / f"{assembly.STAGING}{name}")
            for name in _folders(number):  # the ensemble's last: with it the release exists
                (repository / f"{assembly.STAGING}{name}").rename(repository / name)
        if not (repository / ROUTES_FILE).exists():
            copy_file(folder / ROUTES_FILE, repository / f".{ROUTES_FILE}.restored")
            (repository / f".{ROUTES_FILE}.restored").rename(repository / ROUTES_FILE)
    sync(repository)


def _folders(number: int) -> list[str]:
    return [*(part_name(part, number) for part in PARTS), ensemble_name(number)]


def copy_registry(repository: Path, target: Path, progress: Progress) -> dict[str, Any] | None:
    """Copy the embedded registry by SQLite's online backup; None where there is none.

    The audit is what counts, and is copied before and after: where it changed meanwhile, all is copied anew.
    """
    folder = repository / EMBEDDED_FOLDER
    if not (folder / AUDIT_FILE).exists():
        return None
    progress(0.0, "registry")
    for _ in range(_ATTEMPTS):
        target.mkdir(parents=True, exist_ok=True)
        _copy_sqlite(folder / AUDIT_FILE, target / AUDIT_FILE)
        _copy_sqlite(folder / CATALOGUE_FILE, target / CATALOGUE_FILE)
        shutil.copytree(folder / ARTIFACTS, target / ARTIFACTS)
        if audit_lines(folder / AUDIT_FILE) == audit_lines(target / AUDIT_FILE):
            return {"audit_rows": check_registry(target)}
        shutil.rmtree(target)
    raise BackupFailed("the registry changes while it is copied; try again when nobody promotes")


def check_registry(folder: Path) -> int:
    """The rows of the archive's audit; ArchiveRefused where its chain or a file is broken."""
    book, findings = read_book(audit_lines(folder / AUDIT_FILE), None)
    if findings:
        raise ArchiveRefused(f"the archive's audit of releases is broken: {findings[0]}")
    with closing(sqlite3.connect(f"file:{folder / CATALOGUE_FILE}?mode=ro&immutable=1", uri=True)) as connection:
        if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise ArchiveRefused(f"the archive's {CATALOGUE_FILE} is damaged; restore another archive")
    return len(book.rows)


def put_registry(folder: Path, repository: Path) -> None:
    """Put an archived registry into a repository that has none."""
    staged = repository / f"{EMBEDDED_FOLDER}.restored"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(folder, staged)
    staged.rename(repository / EMBEDDED_FOLDER)
    sync(repository)


def copy_home(home: Path, target: Path, *, with_keys: bool) -> dict[str, Any]:
    """Copy what a home remembers, and its private keys only where that is asked for."""
    copied = [name for name in REMEMBERED if (home / name).is_file()]
    copied += [f"{IDS_FOLDER}/{path.name}" for path in _files(home / IDS_FOLDER)]
    keys = [f"{KEYS_FOLDER}/{path.name}" for path in sorted((home / KEYS_FOLDER).glob(PRIVATE))] if with_keys else []
    for name in (*copied, *keys):
        copy_file(home / name, target / name)
    for name in keys:
        (target / name).chmod(0o600)
    return {"files": copied, "private_keys": keys}


def put_home(folder: Path, home: Path) -> None:
    """Put back what a home remembers; a file that is there stays."""
    for path in _files(folder, deep=True):
        target = home / path.relative_to(folder)
        if not target.exists():
            copy_file(path, target)
            target.chmod(path.stat().st_mode & 0o777)


def audit_lines(path: Path) -> list[str]:
    """The lines of an audit, without a lock or a byte of change."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return [str(line) for (line,) in connection.execute("SELECT line FROM audit ORDER BY sequence")]


def _copy_sqlite(source: Path, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)
    except sqlite3.DatabaseError as error:
        raise BackupFailed(f"{source.name} of the registry cannot be copied: {error}") from None


def _files(folder: Path, *, deep: bool = False) -> Iterable[Path]:
    found = folder.rglob("*") if deep else folder.glob("*")
    return sorted(path for path in found if path.is_file())
