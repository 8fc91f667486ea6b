"""Engines of real graphs by TensorRT-RTX, which needs no GPU to build: parsed, with profiles, serialised, sealed."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path

import onnx
import pytest

from fraud_release.agreement import ReducedPrecision
from fraud_release.engine.build import BuildOrder, build_engine
from fraud_release.engine.config import PROFILES
from fraud_release.engine.cuda import Gpu, find_gpu
from fraud_release.engine.record import EngineRecord, engines_of, fitting_engine, manifest_sha256, read_engine
from fraud_release.engine.toolkit import Profile, Toolkit, installed_version
from fraud_release.errors import ReleaseRefused
from fraud_release.plain_onnx import plain_form
from fraud_release.tree_onnx import to_onnx
from fraud_scoring.errors import InvalidInput
from support.boosters import FEATURES, random_booster
from support.engines import NEEDS_RTX, blend, release_of_a_blend

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=timezone.utc)
RTX = BuildOrder("tensorrt_rtx", compute_capability="8.9")


def engines(repository: Path) -> Path:
    return repository.parent / "engines"


def build(repository: Path, order: BuildOrder = RTX) -> EngineRecord:
    return build_engine(repository, 1, order, engines(repository), progress=lambda share, text: None, now=lambda: NOW)


@pytest.fixture
def repository(trained, tmp_path: Path) -> Path:
    return shutil.copytree(trained.repository, tmp_path / "models")


@NEEDS_RTX
def test_a_release_becomes_an_engine_and_is_not_touched(repository: Path) -> None:
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    record = build(repository)
    assert engines_of(engines(repository), 1) == [record.name]
    assert read_engine(engines(repository), record.name, repository, 1) == record
    assert (engines(repository) / record.name / "1" / "model.plan").stat().st_size > 10_000
    assert (record.release, record.engine, record.precision) == ("r0001", "tensorrt_rtx", "fp16")
    assert record.version == installed_version("tensorrt_rtx")
    assert record.compute_capability == "8.9"
    assert record.manifest_sha256 == manifest_sha256(repository, 1)
    assert record.built_at == "2026-03-02T08:00:00+00:00"
    assert record.profiles == PROFILES
    assert record.answers["golden"]["largest_score_difference"] <= 1e-5
    assert record.answers["check_rows"]["decisions_differ"] == 0
    assert record.refused_precision is None
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before


@NEEDS_RTX
@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU to ask")
def test_where_no_gpu_could_be_asked_the_record_says_so_and_nobody_serves_the_engine(repository: Path) -> None:
    record = build(repository)
    assert record.gpu is None
    assert record.answers["asked"] == "the same graph in ONNX Runtime on a CPU"
    with pytest.raises(ReleaseRefused, match="which Triton's tensorrt backend does not load"):
        fitting_engine(engines(repository), repository, 1, Gpu("NVIDIA L4", "8.9"), record.version)


@NEEDS_RTX
def test_half_precision_that_loses_too_much_ends_in_an_engine_in_full_precision_that_says_why(
    trained, tmp_path: Path
) -> None:
    release_of_a_blend(trained.repository, tmp_path / "models", bias=2_000.0)
    record = build(tmp_path / "models")
    assert record.precision == "fp32"
    assert record.name.endswith("_fp32")
    assert str(record.refused_precision).startswith("fp16: ")
    assert engines_of(tmp_path / "engines", 1) == [record.name]


@NEEDS_RTX
def test_a_blend_that_loses_little_is_built_in_half_precision_within_the_stated_share(trained, tmp_path: Path) -> None:
    release_of_a_blend(trained.repository, tmp_path / "models", bias=0.0)
    order = BuildOrder("tensorrt_rtx", compute_capability="8.9", gate=ReducedPrecision(flipped_share=1e-3))
    assert build(tmp_path / "models", order).precision == "fp16"


@NEEDS_RTX
def test_nothing_is_written_of_a_release_that_was_changed(repository: Path) -> None:
    path = repository / "fraud_model_r0001" / "1" / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ReleaseRefused, match=r"model\.onnx was changed"):
        build(repository)
    assert engines_of(engines(repository), 1) == []


@pytest.fixture(scope="module")
def as_large_as_served() -> onnx.ModelProto:
    return to_onnx(random_booster(1, num_leaves=15, trees=400), FEATURES)


@NEEDS_RTX
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["trees", "blend"])
def test_a_model_of_the_served_size_builds(as_large_as_served: onnx.ModelProto, kind: str, half: bool) -> None:
    model = as_large_as_served if kind == "trees" else blend(as_large_as_served, FEATURES, seed=2)
    toolkit = Toolkit("tensorrt_rtx")
    plan = toolkit.build(plain_form(model, half=half).SerializeToString(), PROFILES, compute_capability="8.9")
    assert len(plan.content) > 100_000
    assert plan.timing_cache == b""


@NEEDS_RTX
def test_a_graph_with_tree_operators_is_refused_in_the_parsers_own_words() -> None:
    served = to_onnx(random_booster(1, num_leaves=3, trees=1), FEATURES)
    with pytest.raises(ReleaseRefused, match=r"tensorrt_rtx cannot read the graph: .*lugin"):
        Toolkit("tensorrt_rtx").build(served.SerializeToString(), PROFILES, compute_capability="8.9")


@NEEDS_RTX
def test_profiles_that_nothing_can_be_built_for_are_refused() -> None:
    plain = plain_form(to_onnx(random_booster(1, num_leaves=3, trees=1), FEATURES)).SerializeToString()
    with pytest.raises(ReleaseRefused, match="tensorrt_rtx cannot build the graph"):
        Toolkit("tensorrt_rtx").build(plain, [Profile(8, 4, 2)], compute_capability="8.9")


@NEEDS_RTX
def test_a_gpu_that_cannot_be_aimed_at_is_named_with_those_that_can(repository: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot build for compute capability 9\.0; it can for: 7\.5, 8\.0"):
        build(repository, BuildOrder("tensorrt_rtx", compute_capability="9.0"))


def test_a_library_that_is_not_installed_is_named_with_its_package(repository: Path) -> None:
    if installed_version("tensorrt"):
        pytest.skip("tensorrt is installed here")
    with pytest.raises(ReleaseRefused, match="the package tensorrt is not installed here; run: pip install tensorrt"):
        build(repository, BuildOrder("tensorrt"))
