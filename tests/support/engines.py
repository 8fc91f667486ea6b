"""What tests of engines need: TensorRT-RTX where it is installed, and models that lose by half precision."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fraud_release.assembly import write_release
from fraud_release.files import CHECK_ROWS_FILE
from fraud_release.golden import golden_file
from fraud_scoring.pipeline import Pipeline, in_this_process
from fraud_scoring.releases import (
    DECISION_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
    SCHEMA_FILE,
    decision_rule,
    ensemble_name,
    part_name,
    pinned_schema,
)
from support.release import empty_repository

NEEDS_RTX: Final = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed; run: make parts"
)


def blend(trees: onnx.ModelProto, features: int, *, seed: int, bias: float = 0.0) -> onnx.ModelProto:
    """Half the margin of `trees` in binary64, half a small network's: what a blend looks like where it is served.

    With a large `bias` the network's hidden values are large and cancel: FP16 then loses what sets them apart.
    """
    random = np.random.default_rng(seed)
    outer = random.normal(0, 0.3, (16, 1))
    constants = {
        "one": np.array(1, np.float32),
        "scale": np.full(features, 0.1, np.float32),
        "inner": random.normal(0, 0.3, (features, 16)).astype(np.float32),
        "inner_bias": (random.normal(0, 1, 16) + bias).astype(np.float32),
        "outer": (outer - outer.mean()).astype(np.float32),
        "share": np.array(0.5, np.float64),
    }
    nodes = [
        *trees.graph.node[:-1],
        renamed_output(trees.graph.node[-1], "by_trees"),
        helper.make_node("Cast", ["by_trees"], ["wide_by_trees"], to=TensorProto.DOUBLE),
        helper.make_node("Abs", ["features"], ["size"]),
        helper.make_node("Add", ["size", "one"], ["above_one"]),
        helper.make_node("Log", ["above_one"], ["log_size"]),
        helper.make_node("Sign", ["features"], ["sign"]),
        helper.make_node("Mul", ["sign", "log_size"], ["logarithm"]),
        helper.make_node("Mul", ["logarithm", "scale"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "inner", "inner_bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["rectified"]),
        helper.make_node("MatMul", ["rectified", "outer"], ["by_network"]),
        helper.make_node("Cast", ["by_network"], ["wide_by_network"], to=TensorProto.DOUBLE),
        helper.make_node("Add", ["wide_by_trees", "wide_by_network"], ["both"]),
        helper.make_node("Mul", ["both", "share"], ["mean"]),
        helper.make_node("Cast", ["mean"], ["margin"], to=TensorProto.FLOAT),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "blend", trees.graph.input, trees.graph.output, tensors)
    return helper.make_model(graph, opset_imports=trees.opset_import, ir_version=8)


def renamed_output(node: onnx.NodeProto, name: str) -> onnx.NodeProto:
    out = onnx.NodeProto()
    out.CopyFrom(node)
    out.output[0] = name
    return out


def release_of_a_blend(source: Path, repository: Path, *, bias: float) -> Pipeline:
    """Release 1 of `repository`: release 1 of `source`, but for its model, which is a blend of that and a network."""
    schema, ensemble = pinned_schema(source, 1), source / ensemble_name(1)
    trees = onnx.load(source / part_name("model", 1) / "1" / MODEL_FILE)
    graph = blend(trees, len(schema.features), seed=4, bias=bias).SerializeToString()
    pipeline = Pipeline(schema, decision_rule(source, 1), in_this_process(graph))
    artifacts = {
        SCHEMA_FILE: schema.document.encode(),
        MODEL_FILE: graph,
        DECISION_FILE: pipeline.rule.to_json().encode(),
        GOLDEN_FILE: golden_file(pipeline, seed=1),
        CHECK_ROWS_FILE: (ensemble / CHECK_ROWS_FILE).read_bytes(),
    }
    write_release(empty_repository(repository), 1, schema, artifacts, {})
    return pipeline
