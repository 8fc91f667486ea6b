"""What an engine must answer before it is sealed: here the same graph in ONNX Runtime, and what may ail it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fraud_release.agreement import ReducedPrecision
from fraud_release.check_rows import CheckRows
from fraud_release.engine.answers import AnswerCheck, PrecisionRefused
from fraud_release.errors import ReleaseRefused
from fraud_release.plain_onnx import plain_form
from fraud_scoring.pipeline import Margin, Pipeline, in_this_process
from support.engines import release_of_a_blend


@pytest.fixture(scope="module")
def pipeline(trained) -> Pipeline:
    return Pipeline.load(trained.repository, 1)


@pytest.fixture(scope="module")
def served(trained) -> onnx.ModelProto:
    return onnx.load(trained.repository / "fraud_model_r0001" / "1" / "model.onnx")


@pytest.fixture(scope="module")
def check(trained, pipeline: Pipeline) -> AnswerCheck:
    return AnswerCheck(trained.repository, 1, pipeline, ReducedPrecision())


def margin_of(graph: onnx.ModelProto) -> Margin:
    return in_this_process(graph.SerializeToString())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_plain_form_passes_in_either_precision(
    trained, check: AnswerCheck, pipeline: Pipeline, served: onnx.ModelProto, precision: str
) -> None:
    margin = margin_of(plain_form(served, half=precision == "fp16"))
    answers = check.check(margin, precision)
    assert answers["golden"]["rows"] == 64
    assert answers["golden"]["largest_score_difference"] <= 1e-5
    assert answers["check_rows"]["rows"] == len(CheckRows.load(trained.repository, 1).features)
    assert answers["check_rows"]["decisions_differ"] == 0


def off_by(amount: float) -> Callable[[Margin], Margin]:
    return lambda exact: lambda features: exact(features) + np.float32(amount)


def no_number(exact: Margin) -> Margin:
    return lambda features: np.full_like(exact(features), np.nan)


def wrong_in_batches_of_seven(exact: Margin) -> Margin:
    """As by a kernel that is wrong for one size, or a CUDA graph that reads what an earlier batch left."""
    return lambda features: exact(features) + np.float32(3.0) * (len(features) == 7)


def rows_swapped(exact: Margin) -> Margin:
    return lambda features: exact(features)[::-1]


@pytest.mark.parametrize(
    "ill",
    [off_by(0.01), off_by(3.0), no_number, wrong_in_batches_of_seven, rows_swapped],
    ids=["a little off", "far off", "no number", "wrong in batches of seven", "rows swapped"],
)
def test_an_engine_in_full_precision_that_answers_otherwise_is_refused(
    check: AnswerCheck, pipeline: Pipeline, ill: Callable[[Margin], Margin]
) -> None:
    with pytest.raises(ReleaseRefused) as refusal:
        check.check(ill(pipeline.margin), "fp32")
    assert not isinstance(refusal.value, PrecisionRefused)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("ill", [off_by(3.0), no_number], ids=["far off", "no number"])
def test_in_reduced_precision_the_same_ends_that_precision_and_not_the_build(
    check: AnswerCheck, pipeline: Pipeline, ill: Callable[[Margin], Margin]
) -> None:
    with pytest.raises(PrecisionRefused):
        check.check(ill(pipeline.margin), "fp16")


@pytest.mark.parametrize(("bias", "passes"), [(0.0, True), (2_000.0, False)], ids=["loses little", "loses much"])
def test_a_network_in_half_precision_passes_by_what_it_loses(
    trained, tmp_path: Path, bias: float, passes: bool
) -> None:
    """A real loss by real FP16: with a large bias what tells rows apart is lost."""
    pipeline = release_of_a_blend(trained.repository, tmp_path / "models", bias=bias)
    check = AnswerCheck(tmp_path / "models", 1, pipeline, ReducedPrecision(flipped_share=1e-3))
    both = onnx.load(tmp_path / "models" / "fraud_model_r0001" / "1" / "model.onnx")
    half, full = (margin_of(plain_form(both, half=half)) for half in (True, False))
    if passes:
        found = check.check(half, "fp16")["check_rows"]
        assert found["largest_margin_difference"] > 1e-5, "a network does lose, and the gate says how much"
        check.check(full, "fp32")
    else:
        with pytest.raises(PrecisionRefused):
            check.check(half, "fp16")
