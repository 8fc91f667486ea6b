"""Exported trees against LightGBM: the same bits, also exactly at the thresholds, and one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pytest

import onnxruntime
from fraud_release.errors import ReleaseRefused
from fraud_release.tree_onnx import to_onnx
from fraud_scoring.features import Float32

FEATURES = 7
MODELS = {
    "shallow": {"num_leaves": 3, "trees": 40},
    "deep": {"num_leaves": 63, "trees": 15},
    "many": {"num_leaves": 15, "trees": 300},
    "one": {"num_leaves": 31, "trees": 1},
}


def random_features(seed: int, rows: int) -> Float32:
    """Amounts, counts, flags, shares, and a feature around 0 with both zeros and the least numbers in it."""
    random = np.random.default_rng(seed)
    columns = [
        np.exp(random.normal(3, 2, rows)),
        random.poisson(4, rows),
        random.integers(0, 2, rows),
        random.integers(0, 9, rows) / random.integers(1, 9, rows),
        random.normal(0, 1e-3, rows),
        random.choice([0.0, -0.0, 1e-40, -1e-40, 1e-35, -1e-35, 1.0, -1.0], rows),
        random.normal(0, 1e30, rows),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def random_booster(seed: int, *, num_leaves: int, trees: int, **more: Any) -> lightgbm.Booster:
    features = random_features(seed, 3_000)
    random = np.random.default_rng(seed + 1)
    target = (random.random(3_000) < 1 / (1 + np.exp(2 - np.log1p(features[:, 0]) + features[:, 5]))).astype(np.int8)
    parameters = {"objective": "binary", "num_leaves": num_leaves, "min_child_samples": 5, "seed": seed}
    return lightgbm.train(
        {**parameters, "deterministic": True, "num_threads": 1, "verbose": -1, **more},
        lightgbm.Dataset(features, target),
        trees,
    )


def at_the_thresholds(booster: lightgbm.Booster, seed: int) -> Float32:
    """A row for each threshold with the nearest binary32 number in its feature, one with the next below, one above."""
    splits: list[tuple[int, float]] = []
    waiting = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if "threshold" in node:
            splits.append((node["split_feature"], node["threshold"]))
            waiting += [node["left_child"], node["right_child"]]
    splits = sorted(set(splits))
    nearest = np.array([threshold for _, threshold in splits]).astype(np.float32)
    rows = random_features(seed, 3 * len(splits))
    where = np.array([feature for feature, _ in splits])
    for part, values in enumerate(
        (nearest, np.nextafter(nearest, np.float32(-np.inf)), np.nextafter(nearest, np.float32(np.inf)))
    ):
        rows[part * len(splits) + np.arange(len(splits)), where] = values
    return rows


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
