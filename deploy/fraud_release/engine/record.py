"""What an engine was built of, for and with: engine.json in its own sealed folder.

The folder of engines is this machine's, a second model repository for Triton; that of the releases is not touched.

fraud_engine_r0007_sm90_tensorrt_10_16_1_11_fp16/   a Triton model by itself
  engine.json     the record, with the hash of the release's manifest and of each file here
  config.pbtxt    for the tensorrt backend
  1/model.plan    the engine
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from fraud_release.engine.cuda import Gpu
from fraud_release.engine.toolkit import Profile
from fraud_release.errors import ReleaseRefused
from fraud_scoring.releases import ENGINE_PREFIX, MANIFEST_FILE, ensemble_name, release_name

RECORD_FILE: Final = "engine.json"
PLAN_FILE: Final = "1/model.plan"
CONFIG_FILE: Final = "config.pbtxt"
ASKED_ENGINE: Final = "the engine on its GPU"
"""Who gave the answers that were checked, in a record that may be served."""
_STAGING: Final = ".staging-"


@dataclass(frozen=True)
class EngineRecord:
    """The build record.

    `answers` says who was asked, and how that agreed with the release; `gpu` is None where none of the kind was there.
    """

    release: str
    manifest_sha256: str
    engine: str
    version: str
    precision: str
    compute_capability: str
    gpu: str | None
    profiles: tuple[Profile, ...]
    built_at: str
    answers: Mapping[str, Any]
    refused_precision: str | None
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """The folder, which is the Triton model's name too."""
        return engine_name(self.release, self.engine, self.version, self.compute_capability, self.precision)

    def objection(self, gpu: Gpu | None, version: str | None) -> str | None:
        """Why it cannot be served on a machine with this GPU and TensorRT, in one line; None if it can."""
        if self.engine != "tensorrt":
            return f"{self.name}: built with {self.engine}, which Triton's tensorrt backend does not load"
        if self.answers.get("asked") != ASKED_ENGINE:
            return f"{self.name}: its answers were not checked on its GPU; build it there"
        if gpu is None:
            return f"{self.name}: built for {self.gpu}; this machine has no GPU"
        if (gpu.name, gpu.compute_capability) != (self.gpu, self.compute_capability):
            return (
                f"{self.name}: built for {self.gpu} ({self.compute_capability}); this machine has {gpu.name} "
                f"({gpu.compute_capability}): build it here"
            )
        if version != self.version:
            found = f"this machine has {version}" if version else "this machine has none"
            return f"{self.name}: built with TensorRT {self.version}; {found}: build it here"
        return None

    def to_json(self) -> str:
        return json.dumps({"name": self.name, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EngineRecord:
        """The record that `to_json` wrote; ValueError, KeyError or TypeError for anything else."""
        document = json.loads(text)
        values = {field.name: document[field.name] for field in fields(cls)}
        return cls(**{**values, "profiles": tuple(Profile(**profile) for profile in values["profiles"])})


def engine_name(release: str, engine: str, version: str, compute_capability: str, precision: str) -> str:
    """`fraud_engine_r0007_sm90_tensorrt_10_16_1_11_fp16`: one folder a release, GPU, version and precision."""
    architecture = "sm" + compute_capability.replace(".", "")
    return f"{ENGINE_PREFIX}{release}_{architecture}_{engine}_{re.sub('[^0-9A-Za-z]', '_', version)}_{precision}"


def manifest_sha256(repository: Path, number: int) -> str:
    """The hash that ties an engine to its release."""
    return hashlib.sha256((repository / ensemble_name(number) / MANIFEST_FILE).read_bytes()).hexdigest()


def seal_engine(engines: Path, record: EngineRecord, contents: Mapping[str, bytes]) -> Path:
    """Write an engine's folder whole, read-only; an engine of the same name is replaced. Returns the folder.

    The plan is no part of the release: the same build on the same machine may give other bytes, and nothing refers to
    them but this record.
    """
    staging = engines / f"{_STAGING}{record.name}.{os.getpid()}"
    folder = engines / record.name
    try:
        for relative, content in {**contents, RECORD_FILE: record.to_json().encode()}.items():
            path = staging / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            path.chmod(0o444)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def engines_of(engines: Path, number: int) -> list[str]:
    """Names of the engines of release `number`, sorted."""
    return sorted(path.name for path in engines.glob(f"{ENGINE_PREFIX}{release_name(number)}_*") if path.is_dir())


def read_engine(engines: Path, name: str, repository: Path, number: int) -> EngineRecord:
    """The record of an engine whose every file is as it was made, for this very release; else ReleaseRefused."""
    folder = engines / name
    try:
        record = EngineRecord.from_json((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        raise ReleaseRefused(f"{name}: no readable {RECORD_FILE}; build it again") from None
    if record.name != name or record.release != release_name(number):
        raise ReleaseRefused(f"{name}: its record is that of {record.name}; build it again")
    if record.manifest_sha256 != manifest_sha256(repository, number):
        raise ReleaseRefused(f"{name}: built of another release {record.release} than the one here; build it again")
    _check_files(folder, name, record.files)
    return record


def _check_files(folder: Path, name: str, files: Mapping[str, str]) -> None:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    wanted = {*files, RECORD_FILE}
    if {PLAN_FILE, CONFIG_FILE} - set(files) or found != wanted:
        odd = sorted((found ^ wanted) | ({PLAN_FILE, CONFIG_FILE} - set(files)))
        raise ReleaseRefused(f"{name}: {odd[0]} is missing, or not in its record; build it again")
    for relative, digest in files.items():
        if hashlib.sha256((folder / relative).read_bytes()).hexdigest() != digest:
            raise ReleaseRefused(f"{name}: {relative} was changed after it was built; build it again")


def file_hashes(contents: Mapping[str, bytes]) -> dict[str, str]:
    """sha256 of each file."""
    return {relative: hashlib.sha256(content).hexdigest() for relative, content in sorted(contents.items())}


def fitting_engine(
    engines: Path, repository: Path, number: int, gpu: Gpu | None, version: str | None, wanted: str | None = None
) -> EngineRecord:
    """The engine of release `number` that may be served here: `wanted`, or the one in FP16 before the one in FP32.

    ReleaseRefused, in one line, where there is none: why the last one does not do.
    """
    names: Sequence[str] = [wanted] if wanted else engines_of(engines, number)
    objection = f"release {release_name(number)} has no engine; make one with: fraudctl release build --engine tensorrt"
    fitting = []
    for name in names:
        record = read_engine(engines, name, repository, number)
        found = record.objection(gpu, version)
        if found is None:
            fitting.append(record)
        else:
            objection = found
    if not fitting:
        raise ReleaseRefused(objection)
    return min(fitting, key=lambda record: record.precision)
