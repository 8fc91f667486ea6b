"""A plain graph by what is installed on a GPU machine, here on the CPU: the same margins by either."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from gpu_executors import KINDS, open_executor

from fraud_release.plain_onnx import plain_form
from fraud_release.tree_onnx import to_onnx
from fraud_scoring.pipeline import in_this_process
from support.boosters import FEATURES, random_booster, random_features
from support.engines import blend


@pytest.fixture(scope="module", params=["trees", "blend"])
def served(request: pytest.FixtureRequest) -> onnx.ModelProto:
    trees = to_onnx(random_booster(1, num_leaves=15, trees=20), FEATURES)
    return trees if request.param == "trees" else blend(trees, FEATURES, seed=2)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_the_served_margins(served: onnx.ModelProto, kind: str, half: bool, tmp_path: Path) -> None:
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed here")
    onnx.save(plain_form(served, half=half), tmp_path / "plain.onnx")
    executor = open_executor(kind, tmp_path / "plain.onnx", "cpu")
    features = random_features(3, 300)
    wanted = in_this_process(served.SerializeToString())(features)
    tolerance = 0.01 if half and served.graph.name == "blend" else 1e-5
    for rows in (1, 7, 300):
        found = executor(features[:rows])
        assert found.shape == (rows, 1)
        assert np.abs(found - wanted[:rows]).max() <= tolerance
    assert executor.queued_us(features, 2) > 0


def test_a_runtime_without_cuda_says_what_to_install(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(SystemExit, match="pip install onnxruntime-gpu"):
        open_executor("onnxruntime", tmp_path / "plain.onnx", "cuda")
