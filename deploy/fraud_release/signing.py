"""Sign a release, and verify one before anything of it is opened.

Every way to a running model goes through `verified_contents`: it reads each file once, without following a link, and
gives the bytes that the signature vouches for. What is served are those bytes, and not what the files hold later.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_release import assembly
from fraud_release.errors import ArtifactRefused
from fraud_release.record import Record, read_record, record_held, write_record
from fraud_release.statement import SIGNATURE_FILE, NotAStatement, NotSignedByAny, Statement, read, sign
from fraud_release.trust import TrustSettings
from fraud_scoring.disk import sync
from fraud_scoring.key_files import public_text
from fraud_scoring.releases import MANIFEST_FILE, ensemble_name, existing, release_name

LARGEST_SIGNATURE: Final = 1 << 22
"""Bytes; some 30,000 files."""


@dataclass(frozen=True)
class Verified:
    """A release whose files are those that a pinned key signed; `manifest` is its manifest.json."""

    statement: Statement
    manifest: dict[str, Any]

    @property
    def files(self) -> int:
        """How many files were hashed; the signature comes on top."""
        return len(self.statement.digests)


def sign_release(
    repository: Path,
    number: int,
    private_key: Ed25519PrivateKey,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Statement:
    """Sign release `number` as it lies there, in place of an earlier signature; returns what was signed.

    The files must be those of the manifest. The epoch is the time, and above that of every signature in the repository.
    """
    assembly.verify_release(repository, number)
    digests = {
        path: hashlib.sha256(read_plain(repository, path, number)).hexdigest() for path in _files(repository, number)
    }
    digests.pop(_signature_path(number), None)
    statement = new_statement(repository, number, digests, private_key, now_us)
    staging = repository / f"{assembly.STAGING}{SIGNATURE_FILE}-{release_name(number)}"
    try:
        assembly.write_sealed(staging / SIGNATURE_FILE, sign(statement, private_key))
        (staging / SIGNATURE_FILE).replace(repository / statement.signature_path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync(repository / ensemble_name(number))
    return statement


def new_statement(
    repository: Path,
    number: int,
    digests: Mapping[str, str],
    private_key: Ed25519PrivateKey,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Statement:
    """What `private_key` is to sign of release `number`; its epoch is above those that the key signed before."""
    own = TrustSettings((public_text(private_key),))
    epochs = [0]
    for known in existing(repository):
        with suppress(ArtifactRefused):
            epochs.append(read_statement(repository, known, own)[2].epoch)
    return Statement(number, max(now_us(), 1 + max(epochs)), digests)


def verify_release(repository: Path, number: int, trust: TrustSettings) -> Verified:
    """Release `number`, if all its files are what a pinned key signed; ArtifactRefused names the file and the rule."""
    return verified_contents(repository, number, trust)[0]


def verified_contents(repository: Path, number: int, trust: TrustSettings) -> tuple[Verified, dict[str, bytes]]:
    """The same, with the bytes of every file by its path in the repository, the signature's included."""
    verified, contents = _verify(repository, number, trust)
    check_record(repository, verified.statement, trust)
    return verified, contents


def admit_release(repository: Path, number: int, trust: TrustSettings) -> Verified:
    """Verify a release and let it in although newer ones were verified before: an operator's decision.

    A signature that is older than one that was verified of the same release stays refused.
    """
    verified, _ = _verify(repository, number, trust)
    if trust.record is not None:
        with record_held(trust.record):
            record = read_record(trust.record) or Record({})
            if number in record.releases:
                record.check(verified.statement)
            write_record(trust.record, record.with_statement(verified.statement))
    return verified


def _verify(repository: Path, number: int, trust: TrustSettings) -> tuple[Verified, dict[str, bytes]]:
    if trust.remember:
        assembly.remove_caches(repository, f"fraud_*{release_name(number)}")
    signature, bundle, statement = read_statement(repository, number, trust)
    _check_names(repository, statement, with_caches=trust.remember)
    contents = {path: read_plain(repository, path, number) for path in statement.digests}
    contents[signature] = bundle
    return check_contents(statement, contents), contents


def check_contents(statement: Statement, contents: Mapping[str, bytes]) -> Verified:
    """A release of whose files these are the bytes, by path; ArtifactRefused names the file that was not signed so."""
    number, release = statement.release, release_name(statement.release)
    for path, wanted in statement.digests.items():
        if hashlib.sha256(contents[path]).hexdigest() != wanted:
            raise ArtifactRefused(release, path, "was changed after it was made")
    manifest_path = f"{ensemble_name(number)}/{MANIFEST_FILE}"
    try:
        manifest: dict[str, Any] = json.loads(contents[manifest_path])
        consistent = manifest["release"] == release and {**manifest["files"]} == {
            path: digest for path, digest in statement.digests.items() if path != manifest_path
        }
    except (KeyError, ValueError, TypeError):
        consistent = False
    if not consistent:
        raise ArtifactRefused(release, manifest_path, "does not list the files that were signed", "sign it again")
    return Verified(statement, manifest)


def read_statement(repository: Path, number: int, trust: TrustSettings) -> tuple[str, bytes, Statement]:
    """(path of the signature, its bytes, what it says)."""
    release, path = release_name(number), _signature_path(number)
    if not os.path.lexists(repository / path):
        if not os.path.lexists(repository / ensemble_name(number)):
            raise ArtifactRefused(release, ensemble_name(number), "is missing")
        raise ArtifactRefused(
            release, path, "is missing: the release is not signed", f"sign it: fraudctl release sign {release}"
        )
    bundle = read_plain(repository, path, number, LARGEST_SIGNATURE)
    try:
        return path, bundle, read(bundle, number, trust.keys)
    except NotAStatement as error:
        raise ArtifactRefused(release, path, f"is no signature of this release: {error}") from None
    except NotSignedByAny as error:
        pinned = f"names key {error.hint[:16]}…" if error.hint else "names no key"
        raise ArtifactRefused(
            release,
            path,
            f"is not signed by a pinned key ({pinned})",
            "restore the release, or pin the key that signed it if you trust it (--release-key)",
        ) from None


def _check_names(repository: Path, statement: Statement, with_caches: bool) -> None:
    """Every folder and file of the release is one that was signed, and is a plain folder or file."""
    release = release_name(statement.release)
    files = {*statement.digests, statement.signature_path}
    folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
    folders.add(f"{ensemble_name(statement.release)}/1")  # Triton wants it, and it is empty
    found = set()
    for path, mode in _entries(repository, statement.release, with_caches):
        found.add(path)
        if stat.S_ISLNK(mode):
            raise ArtifactRefused(release, path, "is a link, and no file or folder as it was made")
        if stat.S_ISDIR(mode):
            if path not in folders:
                raise ArtifactRefused(release, path, "is not in its manifest", "remove it")
        elif path not in files:
            raise ArtifactRefused(release, path, "is not in its manifest", "remove it")
        elif not stat.S_ISREG(mode):
            raise ArtifactRefused(release, path, "is no plain file")
    for path in sorted(folders | files):
        if path not in found:
            raise ArtifactRefused(release, path, "is missing")


def _files(repository: Path, number: int) -> list[str]:
    return [path for path, mode in _entries(repository, number, False) if not stat.S_ISDIR(mode)]


def _entries(repository: Path, number: int, with_caches: bool) -> Iterator[tuple[str, int]]:
    """(path, mode) of whatever bears the release's name, and of all that lies in it; links as links.

    Without caches, folders of bytecode are passed over.
    """
    mark = f"_{release_name(number)}"
    names = sorted(entry.name for entry in repository.iterdir()) if repository.is_dir() else []
    # r0001 is not r00012
    pending = [name for name in names if mark in name and not name.partition(mark)[2][:1].isdigit()][::-1]
    while pending:
        path = pending.pop()
        try:
            mode = os.lstat(repository / path).st_mode
            inside = [entry.name for entry in (repository / path).iterdir()] if stat.S_ISDIR(mode) else []
        except OSError as error:
            raise ArtifactRefused(release_name(number), path, f"cannot be read: {error.strerror}") from None
        if path.endswith(f"/{assembly.CACHE}") and stat.S_ISDIR(mode) and not with_caches:
            continue
        yield path, mode
        pending += [f"{path}/{name}" for name in sorted(inside, reverse=True)]


def read_plain(repository: Path, path: str, number: int, limit: int | None = None) -> bytes:
    """The bytes of a plain file, read once; a link, a device, a file that is not there are refused by name."""
    release = release_name(number)
    try:
        descriptor = os.open(repository / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ArtifactRefused(release, path, "is missing") from None
    except OSError as error:
        raise ArtifactRefused(release, path, f"cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactRefused(release, path, "is no plain file")
        if limit is not None and status.st_size > limit:
            raise ArtifactRefused(release, path, f"is longer than {limit:,} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def check_record(repository: Path, statement: Statement, trust: TrustSettings) -> None:
    """ArtifactRefused if `statement` is older than what this host verified; else it is remembered."""
    if trust.record is None:
        return
    if not trust.remember:
        (read_record(trust.record) or Record({})).check(statement)
        return
    with record_held(trust.record):
        record = read_record(trust.record)
        if record is None:
            record = _first_look(repository, trust)
        record.check(statement)
        write_record(trust.record, record.with_statement(statement))


def _first_look(repository: Path, trust: TrustSettings) -> Record:
    """All releases that verify: those that a host finds at its first start are no downgrade later."""
    record = Record({})
    for number in existing(repository):
        with suppress(ArtifactRefused):
            record = record.with_statement(_verify(repository, number, trust)[0].statement)
    return record


def _signature_path(number: int) -> str:
    return f"{ensemble_name(number)}/{SIGNATURE_FILE}"
