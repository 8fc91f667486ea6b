"""`fraudctl release build | engines`: one object with --json, one line and the right exit code where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_release.engine.cuda import find_gpu
from fraud_release.engine.toolkit import installed_version
from fraud_scoring.routes import Routes
from support.engines import NEEDS_RTX
from support.release import repository_with_release

WITHOUT_GPU = pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")


@pytest.fixture(scope="module")
def repository(small_data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository_with_release(tmp_path_factory.mktemp("engines") / "models", small_data)


def places(repository: Path) -> tuple[object, ...]:
    return ("--repository", repository, "--engines", repository.parent / "engines")


@NEEDS_RTX
def test_build_reports_the_engine_of_the_production_release_and_engines_says_why_it_is_not_served(
    fraudctl, repository: Path
) -> None:
    assert Routes.read(repository).production == 1
    order = ("--engine", "tensorrt_rtx", "--compute-capability", "8.9", *places(repository))
    built = fraudctl("release", "build", *order, "--json")
    assert built.code == 0
    assert built.json["release"] == "r0001"
    assert built.json["precision"] == "fp16"
    assert (repository.parent / "engines" / built.json["name"] / "1" / "model.plan").exists()
    listed = fraudctl("release", "engines", *places(repository), "--json")
    assert listed.code == 1
    (engine,) = listed.json["engines"]
    assert (engine["name"], engine["fits"]) == (built.json["name"], False)
    assert "tensorrt backend does not load" in engine["objection"]
    assert listed.json["serve"] is None
    assert listed.err.count("\n") == 1


def test_engines_of_a_release_that_has_none_says_how_to_make_one(fraudctl, small_data, tmp_path: Path) -> None:
    repository = repository_with_release(tmp_path / "models", small_data)
    ran = fraudctl("release", "engines", *places(repository), "--json")
    assert ran.code == 1
    assert ran.json["engines"] == []
    assert "make one with: fraudctl release build --engine tensorrt" in ran.err


@WITHOUT_GPU
@NEEDS_RTX
def test_without_a_gpu_it_must_be_said_which_one_is_meant(fraudctl, repository: Path) -> None:
    ran = fraudctl("release", "build", "--engine", "tensorrt_rtx", *places(repository))
    assert ran.code == 1
    assert "as in --compute-capability 8.9" in ran.err
    ran = fraudctl("release", "build", "--engine", "tensorrt_rtx", "--compute-capability", "1.0", *places(repository))
    assert ran.code == 2
    assert "it can for: 7.5" in ran.err


def test_what_is_not_there_is_named_in_one_line(fraudctl, repository: Path) -> None:
    ran = fraudctl("release", "build", "--engine", "tensorrt_rtx", "--release", "r0099", *places(repository))
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "there is no release r0099" in ran.err
    if installed_version("tensorrt") is None:
        ran = fraudctl("release", "build", "--engine", "tensorrt", *places(repository))
        assert ran.code == 1
        assert ran.complaint == ("fraudctl: the package tensorrt is not installed here; run: pip install tensorrt")


@NEEDS_RTX
def test_a_release_that_no_pinned_key_signed_is_not_opened(fraudctl, repository: Path, tmp_path: Path) -> None:
    from fraud_release.trust import open_signing_key, public_key_file

    open_signing_key(tmp_path / "another.key")
    order = ("--engine", "tensorrt_rtx", "--compute-capability", "8.9", "--engines", tmp_path / "engines")
    ran = fraudctl(
        "release",
        "build",
        *order,
        "--repository",
        repository,
        "--release-key",
        public_key_file(tmp_path / "another.key"),
    )
    assert ran.code == 1
    assert "r0001" in ran.err.splitlines()[-1]
    assert not (tmp_path / "engines").exists()
