"""Exported trees against LightGBM: the same bits, also exactly at the thresholds, and one at a time."""

from __future__ import annotations

from collections.abc import Callable

import lightgbm
import numpy as np
import pytest

import onnxruntime
from fraud_release.errors import ReleaseRefused
from fraud_release.tree_onnx import to_onnx
from fraud_scoring.features import Float32
from support.boosters import FEATURES, MODELS, at_the_thresholds, random_booster, random_features

Margin = Callable[[Float32], Float32]


def exported(booster: lightgbm.Booster) -> Margin:
    """The exported graph in ONNX Runtime, on one thread as it is served."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = to_onnx(booster, FEATURES).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda features: session.run(["margin"], {"features": features})[0]


def bits_of_the_trained(booster: lightgbm.Booster, features: Float32) -> bytes:
    return np.asarray(booster.predict(features, raw_score=True)).astype(np.float32).tobytes()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_margin_has_the_bits_that_the_trained_model_gives(kind: str, seed: int) -> None:
    booster = random_booster(seed, **MODELS[kind])
    features = random_features(seed + 100, 4_000)
    assert exported(booster)(features).tobytes() == bits_of_the_trained(booster, features)


@pytest.mark.parametrize("kind", MODELS)
def test_a_value_exactly_at_a_threshold_or_right_beside_it_takes_the_same_branch(kind: str) -> None:
    booster = random_booster(3, **MODELS[kind])
    features = at_the_thresholds(booster, seed=4)
    assert len(features) > 50
    assert exported(booster)(features).tobytes() == bits_of_the_trained(booster, features)


@pytest.mark.parametrize("kind", MODELS)
def test_a_row_alone_gets_the_bits_that_it_gets_in_a_batch_of_any_size(kind: str) -> None:
    booster = random_booster(5, **MODELS[kind])
    margin, features = exported(booster), random_features(6, 1_100)
    whole = margin(features)
    for size in (1, 2, 63, 1_024):
        parts = [margin(features[start : start + size]) for start in range(0, 1_100, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_trees_that_found_nothing_to_split_give_the_average() -> None:
    booster = random_booster(7, num_leaves=15, trees=5, min_child_samples=100_000)
    features = random_features(8, 10)
    assert exported(booster)(features).tobytes() == bits_of_the_trained(booster, features)


def test_a_model_with_categorical_splits_is_refused() -> None:
    random = np.random.default_rng(9)
    features = random.integers(0, 40, (2_000, 1)).astype(np.float32)
    dataset = lightgbm.Dataset(features, (features[:, 0] % 2).astype(np.int8), categorical_feature=[0])
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, dataset, 3)
    with pytest.raises(ReleaseRefused, match=r"the model splits by '=='; only '<=' splits can be exported"):
        to_onnx(booster, 1)


def test_the_graph_gives_the_margin_and_nothing_else() -> None:
    graph = to_onnx(random_booster(1, num_leaves=3, trees=2), FEATURES).graph
    assert [value.name for value in graph.input] == ["features"]
    assert [value.name for value in graph.output] == ["margin"]
