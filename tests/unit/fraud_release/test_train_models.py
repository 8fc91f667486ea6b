"""Releases of a network and of a blend: training, gates, reasons and engines ask the same of them as of trees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fraud_release.agreement import ReducedPrecision
from fraud_release.check_rows import CheckRows
from fraud_release.engine.answers import AnswerCheck
from fraud_release.gates.evidence import Opened
from fraud_release.gates.sameness import golden_gate, parity_gates
from fraud_release.plain_onnx import plain_form
from fraud_release.signing import verified_contents
from fraud_release.trained import NETWORK_FILE, TREES_FILE
from fraud_release.trust import TrustSettings
from fraud_scoring.pipeline import Pipeline, in_this_process
from support.release import empty_repository
from support.variants import variant


@pytest.fixture(scope="module", params=["mlp", "blend"])
def of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, train_into, history, plan):
    """(kind, repository with release 1 of that kind, its manifest)."""
    repository = empty_repository(tmp_path_factory.mktemp(request.param) / "models")
    manifest = train_into(history, repository, plan=replace(plan, model=request.param))
    return request.param, repository, manifest


def opened(repository: Path, number: int, home: Path) -> Opened:
    return Opened.of(*verified_contents(repository, number, TrustSettings.read(home, remember=False)))


def test_it_is_written_with_its_trained_model_and_a_plain_form_that_keeps_every_bit(of, plan) -> None:
    kind, repository, manifest = of
    assert manifest["plan"]["model"] == kind
    assert manifest["plain_form"]["decisions_differ"] == manifest["plain_form"]["margins_differ"] == 0
    assert manifest["explanation"]["background_rows"] == plan.background
    carried = {path.name for path in (repository / "fraud_r0001").iterdir()} & {TREES_FILE, NETWORK_FILE}
    assert carried == ({NETWORK_FILE} if kind == "mlp" else {NETWORK_FILE, TREES_FILE})


def test_it_passes_the_gates_of_sameness(of, tmp_path: Path) -> None:
    _, repository, _ = of
    release = opened(repository, 1, tmp_path)
    results = [*parity_gates(release, CheckRows.load(repository, 1).features), golden_gate(release)]
    assert [(result.name, result.passed) for result in results] == [
        ("parity", True),
        ("batch = single", True),
        ("golden vectors", True),
    ]


def test_another_network_than_the_one_that_is_served_fails_parity(of, tmp_path: Path) -> None:
    _, repository, _ = of

    def a_little_off(graph: onnx.ModelProto) -> onnx.ModelProto:
        (worth,) = (tensor for tensor in graph.graph.initializer if tensor.name == "network.worth")
        worth.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(worth) * np.float32(1.001), worth.name))
        return graph

    release = opened(repository, variant(repository, graph=a_little_off), tmp_path)
    parity, batch = parity_gates(release, CheckRows.load(repository, 1).features)
    assert not parity.passed
    assert batch.passed


def test_its_reasons_are_the_same_alone_and_in_a_batch(of) -> None:
    _, repository, _ = of
    pipeline, features = Pipeline.load(repository, 1), CheckRows.load(repository, 1).features
    riskiest = np.ascontiguousarray(features[np.argsort(-pipeline.margin(features)[:, 0], kind="stable")[:20]])
    together = pipeline.decide(riskiest)
    assert (together.verdict[:, 0] > 0).any()
    for row in range(len(riskiest)):
        alone = pipeline.decide(riskiest[row : row + 1])
        assert alone.verdict.tobytes() == together.verdict[row : row + 1].tobytes()
        assert alone.score.tobytes() == together.score[row : row + 1].tobytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_its_plain_form_answers_as_an_engine_must(of, precision: str) -> None:
    _, repository, _ = of
    served = onnx.load(repository / "fraud_model_r0001" / "1" / "model.onnx")
    plain = plain_form(served, half=precision == "fp16").SerializeToString()
    check = AnswerCheck(repository, 1, Pipeline.load(repository, 1), ReducedPrecision())
    assert check.check(in_this_process(plain), precision)["check_rows"]["decisions_differ"] == 0
