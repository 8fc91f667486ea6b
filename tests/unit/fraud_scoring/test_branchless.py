"""Trees without branches and the same graph in ONNX Runtime: not a bit may differ, whatever the trees and the rows."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fraud_release.tree_onnx import to_onnx
from fraud_scoring import branchless
from fraud_scoring.branchless import LANES, BranchlessTrees
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Margin, in_this_process
from support.boosters import FEATURES, MODELS, at_the_thresholds, random_booster, random_features
from support.engines import blend

SMALL = {"num_leaves": 15, "trees": 30}


def both(graph: onnx.ModelProto) -> tuple[BranchlessTrees, Margin]:
    serialised = graph.SerializeToString()
    runtime = in_this_process(serialised)
    trees = branchless.of_graph(serialised, runtime)
    assert trees is not None
    return trees, runtime


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "deep"])
def test_a_margin_has_the_bits_of_onnx_runtime_also_at_the_thresholds(kind: str) -> None:
    booster = random_booster(31, **MODELS[kind])
    trees, runtime = both(to_onnx(booster, FEATURES))
    features = np.concatenate([random_features(32, 5_000), at_the_thresholds(booster, seed=33)])
    assert trees(features).tobytes() == runtime(features).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_feature_that_is_no_finite_number_takes_the_same_branch(value: float) -> None:
    trees, runtime = both(to_onnx(random_booster(34, **SMALL), FEATURES))
    features = random_features(35, 300)
    features[np.arange(300), np.random.default_rng(36).integers(0, FEATURES, 300)] = value
    assert trees(features).tobytes() == runtime(features).tobytes()


@pytest.mark.parametrize("rows", [0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5])
def test_a_row_has_the_same_bits_in_a_batch_of_any_size(rows: int) -> None:
    trees, _ = both(to_onnx(random_booster(37, **SMALL), FEATURES))
    features = random_features(38, 200)
    alone = np.concatenate([trees(features[i : i + 1]) for i in range(rows)]) if rows else np.empty((0, 1), np.float32)
    found = trees(features[:rows])
    assert found.dtype == np.float32
    assert found.shape == (rows, 1)
    assert found.tobytes() == alone.tobytes() == trees(features)[:rows].tobytes()


def test_rows_may_lie_in_any_way_and_nothing_is_compiled_for_that() -> None:
    trees, runtime = both(to_onnx(random_booster(39, **SMALL), FEATURES))
    features = random_features(40, 100)
    wanted = runtime(features).tobytes()
    compiled = len(branchless._add_leaves.signatures)
    read_only = features.copy()
    read_only.flags.writeable = False
    for rows in (read_only, np.asfortranarray(features), np.repeat(features, 2, axis=0)[::2]):
        assert trees(rows).tobytes() == wanted
    assert len(branchless._add_leaves.signatures) == compiled


def test_trees_without_a_split_add_their_only_leaf() -> None:
    trees, runtime = both(to_onnx(random_booster(41, num_leaves=15, trees=5, min_child_samples=100_000), FEATURES))
    features = random_features(42, 10)
    assert trees(features).tobytes() == runtime(features).tobytes()


@pytest.mark.parametrize("features", [np.zeros((3, FEATURES + 1), np.float32), np.zeros((3, FEATURES))], ids=str)
def test_rows_of_another_form_are_refused(features: Float32) -> None:
    trees, _ = both(to_onnx(random_booster(43, **SMALL), FEATURES))
    with pytest.raises(InvalidDefinition, match=rf"take features FP32 \[N, {FEATURES}\]"):
        trees(features)


def narrow(graph: onnx.ModelProto) -> onnx.ModelProto:
    graph.graph.node[0].attribute[0].i = TensorProto.FLOAT
    return graph


def averaged(graph: onnx.ModelProto) -> onnx.ModelProto:
    (function,) = (one for one in graph.graph.node[1].attribute if one.name == "aggregate_function")
    function.s = b"AVERAGE"
    return graph


@pytest.mark.parametrize(
    "change", [lambda graph: blend(graph, FEATURES, seed=44), narrow, averaged], ids=["blend", "narrow", "averaged"]
)
def test_what_is_no_sum_of_trees_in_binary64_is_left_to_onnx_runtime(
    change: Callable[[onnx.ModelProto], onnx.ModelProto],
) -> None:
    graph = change(to_onnx(random_booster(45, **SMALL), FEATURES)).SerializeToString()
    assert branchless.of_graph(graph, no_margin) is None


def test_trees_with_more_leaves_than_a_word_has_bits_are_left_to_onnx_runtime() -> None:
    graph = to_onnx(random_booster(46, **MODELS["deep"]), FEATURES).SerializeToString()
    assert branchless.of_graph(graph, no_margin) is None


def test_trees_that_differ_from_onnx_runtime_in_one_bit_are_not_used_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    graph = to_onnx(random_booster(47, **SMALL), FEATURES).SerializeToString()
    runtime = in_this_process(graph)

    def differs(features: Float32) -> Float32:
        margin = runtime(features)
        margin[-1] = np.nextafter(margin[-1], np.float32(np.inf))
        return margin

    with caplog.at_level(logging.ERROR):
        assert branchless.of_graph(graph, differs) is None
    assert "answer otherwise without branches than in ONNX Runtime" in caplog.text


def test_the_probes_of_a_graph_fall_on_both_sides_of_every_threshold() -> None:
    trees, _ = both(to_onnx(random_booster(48, **SMALL), FEATURES))
    probes = trees.probes(seed=1)
    for column, limit in zip(trees.column, trees.limit, strict=True):
        assert {limit, np.nextafter(limit, np.float32(-np.inf))} <= set(probes[:, column].tolist())


def no_margin(features: Float32) -> Float32:
    raise AssertionError("nothing is asked of a graph that is not read")
