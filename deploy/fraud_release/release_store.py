"""Releases kept where servers fetch them: a folder (a mounted image or volume) or a bucket. Who fetches verifies.

    <root>/r0007/fraud_r0007/…                the same folders as in a model repository
                 fraud_features_r0007/… …

A release is whole once its manifest is there, which is written last; one that is there is never written again.
The store is trusted for nothing: a release gets its name in a repository only after all of it was verified by a
pinned key.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from fraud_release.errors import ReleaseRefused
from fraud_release.registry.transport import install, lay_out
from fraud_release.trust import TrustSettings
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.releases import MANIFEST_FILE, PARTS, ensemble_name, existing, part_name, release_name

_FORM: Final = "write s3://bucket/prefix or folder:///path"
_MOST_FILES: Final = 1_000
_MOST_BYTES: Final = 8 << 30


class ReleaseStore(Protocol):
    """Where releases are kept; ReleaseUnavailable where it does not answer or has no such release."""

    def releases(self) -> list[int]:
        """The whole releases that are there, rising."""
        ...

    def download(self, release: int, folder: Path) -> Path:
        """Copy a release's files below `folder`; where they are then, laid out as in a repository."""
        ...

    def upload(self, release: int, folder: Path) -> None:
        """Keep a release whose files, laid out so, are in `folder`; the manifest last."""
        ...


def open_store(url: str) -> ReleaseStore:
    """The store that `url` names; InvalidDefinition where it names none."""
    parts = urlsplit(url)
    if parts.scheme == "folder" and not parts.netloc and parts.path.startswith("/"):
        return FolderStore(Path(parts.path))
    if parts.scheme == "s3" and parts.netloc and not parts.query:
        return BucketStore(parts.netloc, parts.path.strip("/"))
    raise InvalidDefinition(f"release store {url!r}: {_FORM}")


def fetch_release(repository: Path, release: int, store: ReleaseStore, trust: TrustSettings) -> bool:
    """Bring a release into `repository`, verified; False if it is there already, and verified again.

    ArtifactRefused names what is not as it was signed: then nothing of it got its name.
    """
    from fraud_release.signing import verify_release  # scikit-learn and more; only for who fetches

    if release in existing(repository):
        verify_release(repository, release, trust)
        return False

    def check(folder: Path) -> None:
        verify_release(folder, release, trust)

    install(repository, release, lambda folder: store.download(release, folder), check)
    return True


def publish_release(repository: Path, release: int, store: ReleaseStore, trust: TrustSettings) -> None:
    """Put a release of `repository` into the store, verified first; ReleaseRefused if it is there already."""
    from fraud_release.signing import verify_release

    verify_release(repository, release, trust)
    if release in store.releases():
        raise ReleaseRefused(f"release {release_name(release)} is in the store already, and a release never changes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(repository, release, folder)
        store.upload(release, folder)


class FolderStore:
    """Releases in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def releases(self) -> list[int]:
        found = self._root.glob("r[0-9][0-9][0-9][0-9]*") if self._root.is_dir() else ()
        return sorted(number for folder in found for number in existing(folder) if folder.name == release_name(number))

    def download(self, release: int, folder: Path) -> Path:
        source = self._root / release_name(release)
        if release not in self.releases():
            raise _missing(release)
        target = folder / release_name(release)
        shutil.copytree(source, target, symlinks=True)  # a link is refused when the release is verified
        return target

    def upload(self, release: int, folder: Path) -> None:
        target = self._root / release_name(release)
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._root, prefix=".upload-") as name:
            staged = Path(name) / release_name(release)
            shutil.copytree(folder, staged)
            staged.rename(target)


class BucketStore:
    """Releases in a bucket that speaks S3; who may read it is told as boto3 is told: by role, or by the environment."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def releases(self) -> list[int]:
        suffix = f"/{MANIFEST_FILE}"
        with _answering() as client:
            paths = [key.removeprefix(self._prefix) for key, _ in self._keys(client, "") if key.endswith(suffix)]
        return sorted(number for number in map(_release_of_manifest, paths) if number is not None)

    def download(self, release: int, folder: Path) -> Path:
        target = folder / release_name(release)
        allowed = {ensemble_name(release), *(part_name(part, release) for part in PARTS)}
        root = f"{self._prefix}{release_name(release)}/"
        with _answering() as client:
            keys = self._keys(client, f"{release_name(release)}/")
            if f"{root}{ensemble_name(release)}/{MANIFEST_FILE}" not in [key for key, _ in keys]:
                raise _missing(release)
            if len(keys) > _MOST_FILES or sum(size for _, size in keys) > _MOST_BYTES:
                raise ReleaseRefused(f"release {release_name(release)} in the store is larger than any release may be")
            for key, _ in keys:
                path = PurePosixPath(key.removeprefix(root))
                if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0] not in allowed:
                    raise ReleaseRefused(
                        f"release {release_name(release)} in the store holds {path}, which is no part of it"
                    )
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                client.download_file(self._bucket, key, str(target / path))
        return target

    def upload(self, release: int, folder: Path) -> None:
        files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
        last = Path(ensemble_name(release)) / MANIFEST_FILE
        with _answering() as client:
            for path in (*(path for path in files if path != last), last):
                key = f"{self._prefix}{release_name(release)}/{path.as_posix()}"
                client.upload_file(str(folder / path), self._bucket, key)

    def _keys(self, client: Any, below: str) -> list[tuple[str, int]]:
        """(key, bytes) of what lies below, folders' own entries left out."""
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{below}")
        found = ((one["Key"], int(one["Size"])) for page in pages for one in page.get("Contents", ()))
        return [(key, size) for key, size in found if not key.endswith("/")]


@contextmanager
def _answering() -> Iterator[Any]:
    """A client of the bucket's server; what it complains of is ReleaseUnavailable."""
    try:
        import boto3
        from boto3.exceptions import Boto3Error
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise InvalidDefinition("s3:// needs boto3, which is not installed; install fraudserve[s3]") from None
    try:
        yield boto3.client("s3", config=Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 4}))
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise ReleaseUnavailable(f"the release store does not answer: {error}") from None


def _release_of_manifest(path: str) -> int | None:
    """The release whose manifest lies at `path` below the root; None if it is no release's."""
    parts = PurePosixPath(path).parts
    if len(parts) != 3 or not parts[0].startswith("r") or not parts[0][1:].isdigit():
        return None
    number = int(parts[0][1:])
    return number if parts[:2] == (release_name(number), ensemble_name(number)) else None


def _missing(release: int) -> ReleaseUnavailable:
    return ReleaseUnavailable(
        f"release {release_name(release)} is not in the release store; put it there: "
        f"fraudctl release publish {release_name(release)} --to URL"
    )
