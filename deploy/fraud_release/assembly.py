"""A release as files: written whole or not at all, and never changed after.

The four folders are made under a staging name, sealed (read-only), and renamed into place, the ensemble's last: with
its manifest the release exists. What an interrupted run leaves is removed by the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, Final

from fraud_release.errors import ReleaseRefused
from fraud_release.files import CHECK_ROWS_FILE, TRAINED_FILES
from fraud_release.statement import SIGNATURE_FILE
from fraud_scoring.disk import sync
from fraud_scoring.reference import REFERENCE_FILE
from fraud_scoring.releases import (
    DECISION_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    PARTS,
    SCHEMA_FILE,
    ensemble_name,
    existing,
    part_name,
    release_name,
)
from fraud_scoring.schema import Schema

TEMPLATE_FOLDER: Final = "release_template"
_LOCK_FILE: Final = ".release.lock"
STAGING: Final = ".staging-"
CACHE: Final = "__pycache__"
_RELEASE_FOLDER: Final = re.compile(rf"fraud_(?:(?:{'|'.join(PARTS)})_)?r\d{{4,}}")


@contextmanager
def next_release(repository: Path) -> Iterator[int]:
    """The number of the release that the caller may write now; nobody else gets it meanwhile."""
    with writing_alone(repository):
        yield max(existing(repository), default=0) + 1


@contextmanager
def writing_alone(repository: Path) -> Iterator[None]:
    """Nobody else writes a release into `repository` meanwhile; what interrupted writers left is removed."""
    if not (repository / TEMPLATE_FOLDER).is_dir():
        raise ReleaseRefused(f"{repository.name} is no model repository: it has no folder {TEMPLATE_FOLDER}")
    with (repository / _LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ReleaseRefused("another release is being written into this repository; wait for it to end") from None
        _remove_leftovers(repository)
        yield


def write_release(
    repository: Path,
    number: int,
    schema: Schema,
    artifacts: Mapping[str, bytes],
    facts: Mapping[str, Any],
    sign: Callable[[Mapping[str, str]], bytes] | None = None,
) -> dict[str, Any]:
    """Write release `number`; returns its manifest.

    `artifacts` holds the bytes of schema.json, model.onnx, decision.json, golden.npz and, where they are there,
    reference.json (for drift), check_rows.npz (for engines) and the trained model (for gates); `facts` goes into the
    manifest. `sign` is given the hash of every file by its path, and gives the signature; without it the release stays
    unsigned, and no server takes it.
    """
    release = release_name(number)
    staging = repository / f"{STAGING}{release}"
    template = repository / TEMPLATE_FOLDER
    names = {"ensemble": ensemble_name(number), **{part: part_name(part, number) for part in PARTS}}
    contents = {
        f"{names['features']}/1/{SCHEMA_FILE}": artifacts[SCHEMA_FILE],
        f"{names['model']}/1/{MODEL_FILE}": artifacts[MODEL_FILE],
        f"{names['decision']}/1/{DECISION_FILE}": artifacts[DECISION_FILE],
        f"{names['ensemble']}/{GOLDEN_FILE}": artifacts[GOLDEN_FILE],
    }
    for file in (REFERENCE_FILE, CHECK_ROWS_FILE, *TRAINED_FILES):
        if file in artifacts:
            contents[f"{names['ensemble']}/{file}"] = artifacts[file]
    values = {"release": release, "columns": schema.width, "features": len(schema.features)}
    for part, name in names.items():
        text = (template / part / "config.pbtxt").read_text(encoding="utf-8")
        contents[f"{name}/config.pbtxt"] = Template(text).substitute(values).encode()
        model = template / part / "1" / "model.py"
        if model.exists():
            contents[f"{name}/1/model.py"] = model.read_bytes()
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in sorted(contents.items())}
    manifest = {"release": release, **facts, "files": hashes}
    manifest_path = f"{names['ensemble']}/{MANIFEST_FILE}"
    contents[manifest_path] = (json.dumps(manifest, indent=1) + "\n").encode()
    if sign is not None:
        digests = {**hashes, manifest_path: hashlib.sha256(contents[manifest_path]).hexdigest()}
        contents[f"{names['ensemble']}/{SIGNATURE_FILE}"] = sign(digests)
    try:
        for path, content in contents.items():
            write_sealed(staging / path, content)
        (staging / names["ensemble"] / "1").mkdir()  # Triton wants a version folder, empty for an ensemble
        for folder in (*staging.rglob("*/"), staging):
            sync(folder)
        for name in (*(names[part] for part in PARTS), names["ensemble"]):
            (staging / name).rename(repository / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync(repository)
    return manifest


def verify_release(repository: Path, number: int) -> dict[str, Any]:
    """The manifest of a release whose every file is what it says; ReleaseRefused names the one that is not.

    It finds damage, and not a forger: who can change a file can change the manifest. See `fraud_release.signing`.
    """
    release = release_name(number)
    try:
        manifest: dict[str, Any] = json.loads((repository / ensemble_name(number) / MANIFEST_FILE).read_bytes())
        hashes: dict[str, str] = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ReleaseRefused(f"release {release} has no readable manifest; train it again or restore it") from None
    folders = [ensemble_name(number), *(part_name(part, number) for part in PARTS)]
    own = {f"{ensemble_name(number)}/{name}" for name in (MANIFEST_FILE, SIGNATURE_FILE)}
    for folder in folders:
        if (repository / folder).is_symlink():
            raise ReleaseRefused(f"release {release}: {folder} is a link, and no folder as it was made; restore it")
        for path in sorted((repository / folder).rglob("*")):
            relative = str(path.relative_to(repository))
            if CACHE in path.relative_to(repository).parts:
                continue  # a server that runs leaves them, and `remove_caches` runs before the next could use them
            if path.is_symlink() or (path.is_file() and relative not in {*hashes, *own}):
                raise ReleaseRefused(f"release {release}: {relative} is not in its manifest; remove it")
    for relative, wanted in hashes.items():
        try:
            found = hashlib.sha256((repository / relative).read_bytes()).hexdigest()
        except OSError:
            raise ReleaseRefused(f"release {release}: {relative} is missing; restore the release") from None
        if found != wanted:
            raise ReleaseRefused(f"release {release}: {relative} was changed after it was made; restore the release")
    return manifest


def remove_caches(repository: Path, folders: str = "fraud_*") -> None:
    """Remove the bytecode that Triton's python processes keep beside a model's source (they heed no
    PYTHONDONTWRITEBYTECODE): it would run in place of the source that the manifest vouches for."""
    for cache in repository.glob(f"{folders}/*/{CACHE}"):
        shutil.rmtree(cache, ignore_errors=True)


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file that is then read-only, on the disk, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o444)


def _remove_leftovers(repository: Path) -> None:
    """Staging folders, and parts whose ensemble never appeared."""
    complete = {part_name(part, number) for number in existing(repository) for part in PARTS}
    complete |= {ensemble_name(number) for number in existing(repository)}
    for entry in repository.iterdir():
        incomplete = _RELEASE_FOLDER.fullmatch(entry.name) and entry.name not in complete
        if entry.is_dir() and (incomplete or entry.name.startswith(STAGING)):
            shutil.rmtree(entry)
