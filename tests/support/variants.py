"""Releases that are like another but for one thing: what a gate must see."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fraud_release.assembly import next_release, write_release
from fraud_release.files import TRAINED_FILES
from fraud_release.golden import golden_file
from fraud_release.signing import new_statement
from fraud_release.statement import sign
from fraud_release.trust import named_signing_key, open_signing_key
from fraud_scoring.decision import DecisionRule
from fraud_scoring.pipeline import Pipeline, in_this_process
from fraud_scoring.releases import (
    DECISION_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    SCHEMA_FILE,
    decision_rule,
    ensemble_name,
    part_name,
    pinned_schema,
)


def variant(
    repository: Path,
    *,
    graph: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda graph: graph,
    rule: Callable[[DecisionRule], DecisionRule] = lambda rule: rule,
    golden: Callable[[bytes], bytes] = lambda golden: golden,
    trained: Callable[[bytes], bytes] = lambda trained: trained,
    of: int = 1,
) -> int:
    """Write and sign the next release: release `of` with its graph, rule, golden vectors or trees changed."""
    ensemble = repository / ensemble_name(of)
    manifest = json.loads((ensemble / MANIFEST_FILE).read_text())
    facts = {name: value for name, value in manifest.items() if name not in ("release", "files")}
    key_file = named_signing_key()
    assert key_file is not None
    key = open_signing_key(key_file)
    with next_release(repository) as number:
        source = onnx.load(repository / part_name("model", of) / "1" / MODEL_FILE)
        model = graph(source).SerializeToString()
        changed = rule(decision_rule(repository, of))
        document = json.loads(changed.to_json()) | {"release": number}
        decided = DecisionRule.from_json(json.dumps(document))
        schema = pinned_schema(repository, of)
        artifacts = {
            SCHEMA_FILE: schema.document.encode(),
            MODEL_FILE: model,
            DECISION_FILE: decided.to_json().encode(),
            GOLDEN_FILE: golden(golden_file(Pipeline(schema, decided, in_this_process(model)), 7)),
            **{name: trained((ensemble / name).read_bytes()) for name in TRAINED_FILES if (ensemble / name).exists()},
        }
        write_release(
            repository,
            number,
            schema,
            artifacts,
            facts,
            lambda digests: sign(new_statement(repository, number, digests, key), key),
        )
    return number


def with_margin(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Callable[..., onnx.ModelProto]:
    """A graph whose margin goes through `nodes`: from `before` (and `features`) to `margin`."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        for node in model.graph.node:
            node.output[:] = ["before" if name == "margin" else name for name in node.output]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        onnx.checker.check_model(model)
        return model

    return change


def shifted_where(column: int, above: float, shift: float) -> Callable[..., onnx.ModelProto]:
    """The margin is `shift` higher where feature `column` is above a value."""
    nodes = [
        helper.make_node("Gather", ["features", "column"], ["value"], axis=1),
        helper.make_node("Greater", ["value", "limit"], ["is_above"]),
        helper.make_node("Cast", ["is_above"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["one", "shift"], ["more"]),
        helper.make_node("Add", ["before", "more"], ["margin"]),
    ]
    constants = {
        "column": np.array([column], np.int64),
        "limit": np.array([above], np.float32),
        "shift": np.array([shift], np.float32),
    }
    return with_margin(nodes, constants)


def upside_down() -> Callable[..., onnx.ModelProto]:
    """What looked like fraud looks genuine."""
    return with_margin([helper.make_node("Neg", ["before"], ["margin"])], {})


def leaning_on_the_batch() -> Callable[..., onnx.ModelProto]:
    """The margin is a little higher where the batch's mean is."""
    nodes = [
        helper.make_node("ReduceMean", ["before"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "little"], ["more"]),
        helper.make_node("Add", ["before", "more"], ["margin"]),
    ]
    return with_margin(nodes, {"little": np.array([1e-3], np.float32)})


def slow(side: int = 1_500, times: int = 600) -> Callable[..., onnx.ModelProto]:
    """The same margin, by way of products of matrices that come to nothing: as long for one row as for many."""
    nodes = [
        helper.make_node("ReduceMean", ["before"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Expand", ["mean", "shape"], ["wide0"]),
        *(helper.make_node("MatMul", [f"wide{i}", "matrix"], [f"wide{i + 1}"]) for i in range(times)),
        helper.make_node("ReduceMean", [f"wide{times}"], ["nothing"], axes=[1], keepdims=1),
        helper.make_node("Add", ["before", "nothing"], ["margin"]),
    ]
    constants = {"matrix": np.zeros((side, side), np.float32), "shape": np.array([1, side], np.int64)}
    return with_margin(nodes, constants)


def with_second_release(served: Path, folder: Path) -> Path:
    """A copy of a repository with release 1 in production, and release 2 that gives other scores."""
    copied = Path(shutil.copytree(served, folder))
    variant(copied, rule=lambda rule: replace(rule, probabilities=0.9 * rule.probabilities))
    return copied
