"""Releases that nobody can read where they are kept: each file encrypted on its own, and opened only into memory.

AES-256-GCM with a random nonce a file. Bound to each as associated data are the release, the file's path and the hash
that was signed: a file that is moved, renamed, or taken from another release does not open. A sealed release is one
folder, with the signed statement in the clear, so that its signature can be checked without the key. It is opened into
a repository (of memory, tmpfs, if the model must not touch a disk), and verified there before it appears.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraud_release.assembly import STAGING, write_sealed
from fraud_release.errors import ArtifactRefused
from fraud_release.serving_copy import place_release
from fraud_release.signing import (
    Verified,
    check_contents,
    check_record,
    read_plain,
    read_statement,
    verified_contents,
)
from fraud_release.statement import Statement
from fraud_release.trust import TrustSettings
from fraud_scoring.disk import sync
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.releases import release_name

SUFFIX: Final = ".sealed"
_MAGIC: Final = b"FSR1"
_NONCE: Final = 12
_KEY: Final = 32


def sealing_key(path: Path, make: bool = False) -> bytes:
    """The key in `path`: 32 bytes; with `make`, made there (mode 0600) if there is none."""
    try:
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(AESGCM.generate_key(8 * _KEY))
        key = path.read_bytes()
    except OSError as error:
        raise InvalidDefinition(f"the sealing key {path.name} cannot be used: {error.strerror}") from None
    if len(key) != _KEY:
        raise InvalidDefinition(f"the sealing key {path.name} is {len(key)} bytes; give a file of {_KEY}")
    return key


def sealed_name(number: int) -> str:
    """The folder of a sealed release: `r0007.sealed`."""
    return f"{release_name(number)}{SUFFIX}"


def seal_release(repository: Path, number: int, trust: TrustSettings, key: bytes, target: Path) -> Verified:
    """Write release `number`, once verified, as folder `r0007.sealed` of `target`, in place of an earlier one."""
    verified, contents = verified_contents(repository, number, trust)
    statement, cipher = verified.statement, AESGCM(key)
    staging = target / f"{STAGING}{sealed_name(number)}-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for path, content in contents.items():
            if path == statement.signature_path:
                write_sealed(staging / path, content)
            else:
                nonce = os.urandom(_NONCE)
                closed = cipher.encrypt(nonce, content, _bound(statement, path))
                write_sealed(staging / f"{path}{SUFFIX}", _MAGIC + nonce + closed)
        for folder in (*staging.rglob("*/"), staging):
            sync(folder)
        shutil.rmtree(target / sealed_name(number), ignore_errors=True)
        staging.rename(target / sealed_name(number))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync(target)
    return verified


def open_sealed(source: Path, number: int, trust: TrustSettings, key: bytes, repository: Path) -> Verified:
    """Open `r0007.sealed` of `source`, verify it, and write it into `repository`; ArtifactRefused names the file.

    Plain bytes are held in memory until each of them is what was signed; then they are written as any release is.
    """
    verified, contents = unsealed(source, number, trust, key)
    check_record(repository, verified.statement, trust)
    place_release(number, contents, repository)
    return verified


def unsealed(source: Path, number: int, trust: TrustSettings, key: bytes) -> tuple[Verified, dict[str, bytes]]:
    """(the release, the plain bytes of each file by its path), verified: in memory only."""
    folder, release = source / sealed_name(number), release_name(number)
    path, bundle, statement = read_statement(folder, number, trust)
    _check_names(folder, statement)
    contents, cipher = {path: bundle}, AESGCM(key)
    for name in statement.digests:
        closed = read_plain(folder, f"{name}{SUFFIX}", number)
        if closed[: len(_MAGIC)] != _MAGIC:
            raise ArtifactRefused(release, f"{name}{SUFFIX}", "is no sealed file")
        nonce, rest = closed[len(_MAGIC) :][:_NONCE], closed[len(_MAGIC) + _NONCE :]
        try:
            contents[name] = cipher.decrypt(nonce, rest, _bound(statement, name))
        except (InvalidTag, ValueError):
            raise ArtifactRefused(
                release, f"{name}{SUFFIX}", "does not open: it was changed, or sealed with another key"
            ) from None
    return check_contents(statement, contents), contents


def _bound(statement: Statement, path: str) -> bytes:
    return f"{release_name(statement.release)}\n{path}\n{statement.digests[path]}".encode()


def _check_names(folder: Path, statement: Statement) -> None:
    """Nothing lies in a sealed release but its files."""
    release = release_name(statement.release)
    known = {statement.signature_path, *(f"{path}{SUFFIX}" for path in statement.digests)}
    folders = {str(parent) for path in known for parent in Path(path).parents}
    for entry in sorted(folder.rglob("*")):
        name = str(entry.relative_to(folder))
        if entry.is_symlink():
            raise ArtifactRefused(release, name, "is a link, and no file or folder as it was made")
        if name not in (folders if entry.is_dir() else known):
            raise ArtifactRefused(release, name, "is not in its manifest", "remove it")
