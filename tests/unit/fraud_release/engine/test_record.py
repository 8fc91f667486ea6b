"""An engine is served where it was built, by what it was built with, for the release that it was built of; or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fraud_release.engine.cuda import Gpu
from fraud_release.engine.record import (
    ASKED_ENGINE,
    EngineRecord,
    engines_of,
    file_hashes,
    fitting_engine,
    manifest_sha256,
    read_engine,
    seal_engine,
)
from fraud_release.engine.toolkit import Profile
from fraud_release.errors import ReleaseRefused

H100 = Gpu("NVIDIA H100 80GB HBM3", "9.0")
VERSION = "10.16.1.11"
CONTENTS = {"1/model.plan": b"a plan", "config.pbtxt": b"a configuration"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a release 7, of which only the manifest matters here."""
    (tmp_path / "fraud_r0007").mkdir()
    (tmp_path / "fraud_r0007" / "manifest.json").write_text('{"release": "r0007"}')
    return tmp_path


def record_of(repository: Path, **changes: object) -> EngineRecord:
    record = EngineRecord(
        release="r0007",
        manifest_sha256=manifest_sha256(repository, 7),
        engine="tensorrt",
        version=VERSION,
        precision="fp16",
        compute_capability=H100.compute_capability,
        gpu=H100.name,
        profiles=(Profile(1, 64, 256),),
        built_at="2026-03-02T08:00:00+00:00",
        answers={"asked": ASKED_ENGINE},
        refused_precision=None,
        files=file_hashes(CONTENTS),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def sealed(repository: Path, **changes: object) -> EngineRecord:
    record = record_of(repository, **changes)
    seal_engine(repository / "engines", record, CONTENTS)
    return record


def test_what_was_sealed_is_read_back_and_nobody_writes_into_it(repository: Path) -> None:
    record = sealed(repository)
    assert record.name == "fraud_engine_r0007_sm90_tensorrt_10_16_1_11_fp16"
    assert engines_of(repository / "engines", 7) == [record.name]
    assert read_engine(repository / "engines", record.name, repository, 7) == record
    files = [path for path in (repository / "engines" / record.name).rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}
    assert [path.name for path in (repository / "engines").iterdir() if path.name.startswith(".")] == []


def test_the_release_is_not_touched(repository: Path) -> None:
    before = (repository / "fraud_r0007" / "manifest.json").read_bytes()
    sealed(repository)
    sealed(repository)
    assert (repository / "fraud_r0007" / "manifest.json").read_bytes() == before
    assert {path.name for path in repository.iterdir()} == {"fraud_r0007", "engines"}


def test_it_fits_the_machine_that_it_was_built_on(repository: Path) -> None:
    assert sealed(repository).objection(H100, VERSION) is None


@pytest.mark.parametrize(
    ("gpu", "version", "said"),
    [
        (None, VERSION, "this machine has no GPU"),
        (
            Gpu("NVIDIA L4", "8.9"),
            VERSION,
            r"built for NVIDIA H100 80GB HBM3 \(9\.0\); this machine has NVIDIA L4 \(8\.9\)",
        ),
        (Gpu("NVIDIA H200", "9.0"), VERSION, r"this machine has NVIDIA H200 \(9\.0\): build it here"),
        (H100, "10.15.1.29", r"built with TensorRT 10\.16\.1\.11; this machine has 10\.15\.1\.29: build it here"),
        (H100, "11.4.0.106", r"this machine has 11\.4\.0\.106"),
        (H100, None, "this machine has none"),
    ],
)
def test_on_another_gpu_or_version_it_is_refused_in_one_line(
    repository: Path, gpu: Gpu | None, version: str | None, said: str
) -> None:
    record = sealed(repository)
    with pytest.raises(ReleaseRefused, match=said) as refusal:
        fitting_engine(repository / "engines", repository, 7, gpu, version)
    assert "\n" not in str(refusal.value)
    assert record.name in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine": "tensorrt_rtx"}, "which Triton's tensorrt backend does not load"),
        ({"answers": {"asked": "the same graph in ONNX Runtime on a CPU"}}, "not checked on its GPU"),
        ({"answers": {}}, "not checked on its GPU"),
    ],
)
def test_an_engine_that_nobody_asked_on_its_gpu_is_not_served(
    repository: Path, change: dict[str, object], said: str
) -> None:
    sealed(repository, **change)
    with pytest.raises(ReleaseRefused, match=said):
        fitting_engine(repository / "engines", repository, 7, H100, VERSION)


def test_of_two_that_fit_the_one_in_half_precision_is_served_unless_the_other_is_named(repository: Path) -> None:
    half, full = sealed(repository), sealed(repository, precision="fp32")
    sealed(repository, gpu="NVIDIA L4", compute_capability="8.9")
    assert fitting_engine(repository / "engines", repository, 7, H100, VERSION) == half
    assert fitting_engine(repository / "engines", repository, 7, H100, VERSION, full.name) == full


def test_a_release_without_an_engine_says_how_to_make_one(repository: Path) -> None:
    with pytest.raises(ReleaseRefused, match="release r0007 has no engine; make one with: fraudctl release build"):
        fitting_engine(repository / "engines", repository, 7, H100, VERSION)


def tampered_plan(folder: Path) -> None:
    (folder / "1" / "model.plan").chmod(0o644)
    (folder / "1" / "model.plan").write_bytes(b"another plan")


def another_file(folder: Path) -> None:
    (folder / "1" / "model.py").write_text("")


def no_configuration(folder: Path) -> None:
    (folder / "config.pbtxt").unlink()


def no_record(folder: Path) -> None:
    (folder / "engine.json").unlink()


def a_record_that_lists_no_plan(folder: Path) -> None:
    document = json.loads((folder / "engine.json").read_text())
    del document["files"]["1/model.plan"]
    (folder / "1" / "model.plan").unlink()
    (folder / "engine.json").chmod(0o644)
    (folder / "engine.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "harm", [tampered_plan, another_file, no_configuration, no_record, a_record_that_lists_no_plan]
)
def test_a_folder_that_is_not_as_it_was_built_is_refused(repository: Path, harm: Callable[[Path], None]) -> None:
    record = sealed(repository)
    harm(repository / "engines" / record.name)
    with pytest.raises(ReleaseRefused, match="build it again"):
        read_engine(repository / "engines", record.name, repository, 7)


def test_an_engine_of_another_release_under_the_same_number_is_refused(repository: Path) -> None:
    record = sealed(repository)
    (repository / "fraud_r0007" / "manifest.json").write_text('{"release": "r0007", "trained": "again"}')
    with pytest.raises(ReleaseRefused, match="built of another release r0007"):
        read_engine(repository / "engines", record.name, repository, 7)


def test_a_folder_under_another_name_than_its_record_says_is_refused(repository: Path) -> None:
    record = sealed(repository)
    (repository / "engines" / record.name).rename(repository / "engines" / f"{record.name}_2")
    with pytest.raises(ReleaseRefused, match="its record is that of"):
        read_engine(repository / "engines", f"{record.name}_2", repository, 7)
