"""An archive: a folder of files and a manifest that names each with its size and SHA-256.

It is written under a staging name, brought to the disk, and renamed: a folder under its own name is whole. What an
interrupted backup leaves has the staging name and no manifest, and is refused. The manifest holds no secret and proves
nothing against a forger: the log, the releases and the audit inside carry signatures of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from fraud_recovery.errors import ArchiveRefused, BackupFailed
from fraud_scoring.disk import sync

MANIFEST_FILE: Final = "manifest.json"
STAGING_SUFFIX: Final = ".part"
VERSION: Final = 1
_CHUNK: Final = 1 << 20

Progress = Callable[[float, str], None]


def quiet(share: float, text: str) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class Manifest:
    """`at_us`: when the backup began, UTC microseconds; `parts`: what each part says of itself; `files` by path."""

    at_us: int
    parts: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    version: int = VERSION

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())


class Staging:
    """An archive that is being written: files go below `folder`, parts into `parts`."""

    def __init__(self, folder: Path, at_us: int) -> None:
        self.folder = folder
        self.at_us = at_us
        self.parts: dict[str, Any] = {}

    def place(self, name: str) -> Path:
        """The folder of a part, made if it is not there."""
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def new_archive(out: Path, now_us: int) -> Iterator[tuple[Staging, Path]]:
    """(where to write, the name that it gets): `out`/backup-<UTC time>, if the block ends well; else nothing stays."""
    stamp = datetime.fromtimestamp(now_us / 1e6, timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    final = out / f"backup-{stamp}"
    staged = final.with_name(f".{final.name}{STAGING_SUFFIX}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        staged.mkdir(mode=0o700)
    except OSError as error:
        raise BackupFailed(f"no archive can be made in {out}: {error.strerror}; choose another with --out") from None
    try:
        staging = Staging(staged, now_us)
        yield staging, final
        _finish(staging)
        staged.rename(final)
        sync(out)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _finish(staging: Staging) -> None:
    """Hash every file, bring all to the disk, the manifest last."""
    files = {str(path.relative_to(staging.folder)): (path.stat().st_size, digest_of(path)) for path in _plain(staging)}
    manifest = Manifest(staging.at_us, staging.parts, files)
    for name in files:
        sync(staging.folder / name)
    for folder in (*(one for one in staging.folder.rglob("*") if one.is_dir()), staging.folder):
        sync(folder)
    path = staging.folder / MANIFEST_FILE
    path.write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sync(path)
    sync(staging.folder)


def _plain(staging: Staging) -> list[Path]:
    return sorted(path for path in staging.folder.rglob("*") if path.is_file() and not path.is_symlink())


def read_archive(folder: Path, progress: Progress = quiet) -> Manifest:
    """The manifest of an archive whose every file is what it says; ArchiveRefused names the one that is not.

    A file that is missing, longer, shorter, changed, a link, or not in the manifest is refused.
    """
    if folder.name.endswith(STAGING_SUFFIX):
        raise ArchiveRefused(f"{folder.name} is what an interrupted backup left; restore another archive, remove this")
    manifest = _manifest(folder)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    if strange := sorted(there - {*manifest.files, MANIFEST_FILE}):
        raise ArchiveRefused(f"{folder.name}: {strange[0]} is not in the manifest; restore another archive")
    done = 0
    for path, (size, digest) in manifest.files.items():
        progress(done / max(1, manifest.size), "reading the archive")
        file = folder / path
        if path not in there or file.is_symlink():
            raise ArchiveRefused(f"{folder.name}: {path} is missing; restore another archive")
        if file.stat().st_size != size or digest_of(file) != digest:
            raise ArchiveRefused(f"{folder.name}: {path} is not what was saved; restore another archive")
        done += size
    return manifest


def _manifest(folder: Path) -> Manifest:
    try:
        document = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        files = {str(path): (int(size), str(digest)) for path, (size, digest) in document["files"].items()}
        manifest = Manifest(int(document["at_us"]), dict(document["parts"]), files, int(document["version"]))
    except FileNotFoundError:
        raise ArchiveRefused(
            f"{folder.name} has no {MANIFEST_FILE}: it is no archive, or was not finished; name a folder backup-…"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ArchiveRefused(f"{folder.name}: {MANIFEST_FILE} cannot be read; restore another archive") from None
    if manifest.version != VERSION:
        raise ArchiveRefused(
            f"{folder.name} has version {manifest.version} and this program reads {VERSION}; "
            "restore it with the program that made it"
        )
    if any(Path(path).is_absolute() or ".." in Path(path).parts for path in files):
        raise ArchiveRefused(f"{folder.name}: {MANIFEST_FILE} names a file outside; restore another archive")
    return manifest


def archives(folder: Path) -> list[Path]:
    """The finished archives in a folder, oldest first; whether they are whole is for `read_archive` to say."""
    return sorted(path for path in folder.glob("backup-*") if (path / MANIFEST_FILE).exists())


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def copy_file(source: Path, target: Path, size: int | None = None) -> None:
    """Copy a file, or its first `size` bytes, and put the copy on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reading, target.open("wb") as writing:
        left = reading.seek(0, os.SEEK_END) if size is None else size
        reading.seek(0)
        while left and (chunk := reading.read(min(_CHUNK, left))):
            writing.write(chunk)
            left -= len(chunk)
        writing.flush()
        os.fsync(writing.fileno())
