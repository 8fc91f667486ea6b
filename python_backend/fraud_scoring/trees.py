"""Boosted trees of a served graph, node by node: what other forms of them are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.features import Float32, Float64
from fraud_scoring.windows import Int64

OPERATOR: Final = ("ai.onnx.ml", "TreeEnsembleRegressor")


@dataclass(frozen=True)
class Tree:
    """One tree's nodes by their place: children are places, `value` a threshold or, in a leaf, what it adds."""

    feature: Int64
    value: Float64
    left: Int64
    right: Int64
    is_leaf: npt.NDArray[np.bool_]


def above(threshold: Float64) -> Float32:
    """The least binary32 greater than each threshold: x ≤ t is x < above(t) for every binary32 x, NaN included.

    Thresholds never lie within ±1e-35 of 0 but on that edge (LightGBM's zero), so that a device that reads tiny
    numbers as 0 takes the same branches.
    """
    with np.errstate(over="ignore"):
        nearest = threshold.astype(np.float32)
        risen: Float32 = np.nextafter(nearest, np.float32(np.inf))
    return np.where(nearest.astype(np.float64) > threshold, nearest, risen)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node, tensors as arrays."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {
        name: numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for name, value in values.items()
    }


def read_trees(attributes: Mapping[str, Any]) -> list[Tree]:
    """The trees of a TreeEnsembleRegressor; InvalidDefinition unless they split by ≤ and one target adds up leaves."""
    _require(attributes, "n_targets", 1)
    _require(attributes, "aggregate_function", b"SUM")
    _require(attributes, "post_transform", b"NONE")
    if any(attributes.get("nodes_missing_value_tracks_true", ())):
        raise InvalidDefinition("a split sends missing values left; train without missing values")
    if any(attributes.get("base_values", ())) or attributes.get("base_values_as_tensor") is not None:
        raise InvalidDefinition("the trees have a base value; add it to the first tree's leaves")
    modes = np.array(attributes["nodes_modes"])
    if unknown := sorted(set(modes.tolist()) - {b"LEAF", b"BRANCH_LEQ"}):
        raise InvalidDefinition(f"the trees split by {unknown[0].decode()}; only BRANCH_LEQ can be read")
    owner, names, feature, left, right = (
        np.array(attributes[f"nodes_{column}"])
        for column in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    )
    value = _floats(attributes, "nodes_values").copy()
    weights = _floats(attributes, "target_weights")
    place = {key: at for at, key in enumerate(zip(owner.tolist(), names.tolist(), strict=True))}
    targets = zip(attributes["target_treeids"], attributes["target_nodeids"], weights.tolist(), strict=True)
    is_leaf = modes == b"LEAF"
    value[is_leaf] = 0.0
    for tree, node, weight in targets:
        value[place[tree, node]] += weight
    trees = []
    for tree in np.unique(owner):
        nodes = np.flatnonzero(owner == tree)
        order = np.argsort(names[nodes])
        its_left, its_right = (
            order[np.searchsorted(names[nodes], side[nodes], sorter=order)] for side in (left, right)
        )
        trees.append(Tree(feature[nodes], value[nodes], its_left, its_right, is_leaf[nodes]))
    return trees


def _require(attributes: Mapping[str, Any], name: str, wanted: object) -> None:
    if (found := attributes.get(name, wanted)) != wanted:
        raise InvalidDefinition(f"the trees' {name} is {found!r}; only {wanted!r} can be read")


def _floats(attributes: Mapping[str, Any], name: str) -> Float64:
    """Numbers that are an attribute of floats, or a tensor."""
    wide = attributes.get(f"{name}_as_tensor")
    found: Float64 = np.asarray(attributes[name] if wide is None else wide, np.float64)
    return found
