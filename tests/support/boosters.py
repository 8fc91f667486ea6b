"""Small random trees, and rows that try them: any values, and values exactly at the thresholds."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np

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
