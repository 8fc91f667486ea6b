"""Boosted trees to ONNX without losing a bit.

LightGBM compares and adds in binary64. The graph does the same: features are cast to binary64, thresholds and leaves
are stored in binary64, and the sum is rounded to binary32 once. So every row takes the same branches and gets the same
sum, which converters that round thresholds to binary32 do not promise (docs/decisions/0003-own-tree-export.md).
"""

from __future__ import annotations

from typing import Any, Final

import lightgbm
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fraud_release.errors import ReleaseRefused

OPSET: Final = 17
TREES_OPSET: Final = 3
_ZERO: Final = float(np.float32(1e-35))
"""LightGBM reads every value from −_ZERO to _ZERO as 0 when it predicts."""


def to_onnx(booster: lightgbm.Booster, feature_count: int) -> onnx.ModelProto:
    """A graph features FP32 [N, F] → margin FP32 [N, 1]: the booster's raw score (log odds), rounded once."""
    attributes = _tree_attributes(booster)
    nodes = [
        helper.make_node("Cast", ["features"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("TreeEnsembleRegressor", ["wide"], ["margin"], domain="ai.onnx.ml", **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "boosted_trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, feature_count])],
        [helper.make_tensor_value_info("margin", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREES_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="fraudserve")
    onnx.checker.check_model(model)
    return model


def _tree_attributes(booster: lightgbm.Booster) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "nodes_treeids",
            "nodes_nodeids",
            "nodes_featureids",
            "nodes_modes",
            "nodes_values",
            "nodes_truenodeids",
            "nodes_falsenodeids",
            "target_treeids",
            "target_nodeids",
            "target_weights",
        )
    }
    for number, tree in enumerate(booster.dump_model()["tree_info"]):
        _add_tree(columns, number, tree["tree_structure"])
    nodes, leaves = len(columns["nodes_treeids"]), len(columns["target_treeids"])
    thresholds = numpy_helper.from_array(np.array(columns.pop("nodes_values"), np.float64), "thresholds")
    weights = numpy_helper.from_array(np.array(columns.pop("target_weights"), np.float64), "leaves")
    return {
        **columns,
        "nodes_values_as_tensor": thresholds,
        "nodes_missing_value_tracks_true": [0] * nodes,
        "target_ids": [0] * leaves,
        "target_weights_as_tensor": weights,
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


def _add_tree(columns: dict[str, list[Any]], number: int, root: dict[str, Any]) -> None:
    """Append one tree's nodes, depth first; a node's number is its place in that order."""
    waiting: list[tuple[dict[str, Any], int | None, str]] = [(root, None, "")]
    count = 0
    first = len(columns["nodes_treeids"])
    while waiting:
        node, parent, branch = waiting.pop()
        identifier, count = count, count + 1
        if parent is not None:
            columns[branch][first + parent] = identifier
        is_leaf = "leaf_value" in node
        if not is_leaf and node["decision_type"] != "<=":
            raise ReleaseRefused(f"the model splits by {node['decision_type']!r}; only '<=' splits can be exported")
        columns["nodes_treeids"].append(number)
        columns["nodes_nodeids"].append(identifier)
        columns["nodes_featureids"].append(0 if is_leaf else node["split_feature"])
        columns["nodes_modes"].append("LEAF" if is_leaf else "BRANCH_LEQ")
        columns["nodes_values"].append(0.0 if is_leaf else _threshold(node["threshold"]))
        columns["nodes_truenodeids"].append(0)
        columns["nodes_falsenodeids"].append(0)
        if is_leaf:
            columns["target_treeids"].append(number)
            columns["target_nodeids"].append(identifier)
            columns["target_weights"].append(node["leaf_value"])
        else:
            waiting.append((node["right_child"], identifier, "nodes_falsenodeids"))
            waiting.append((node["left_child"], identifier, "nodes_truenodeids"))


def _threshold(value: float) -> float:
    """The threshold that sends the values that LightGBM reads as 0 where it sends 0."""
    if 0 <= value < _ZERO:
        return _ZERO
    if -_ZERO <= value < 0:
        return float(np.nextafter(-_ZERO, -np.inf))
    return value
