"""The models that a study compares: boosted trees, a small neural network, and a blend of both.

Each is fitted on features FP32 [N, F] and labels, and gives margins: log odds, before calibration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np

from fraud_release.learning import PARAMETERS, Labels, fit_trees
from fraud_release.network import fit_network
from fraud_scoring.features import Float32, Float64

MODELS: Final = ("trees", "mlp", "blend")
Margins = Callable[[Float32], Float32]

SMALL_TREES: Final[dict[str, Any]] = {
    **PARAMETERS,
    "num_leaves": 8,
    "min_child_samples": 50,
    "feature_fraction": 0.5,
    "num_threads": 1,
}
"""For some tens of thousands of rows with some hundred frauds; chosen on the validation folds (docs/model.md)."""
TREES: Final = 180
TREES_SHARE: Final = 0.7
"""Of a blend's margin; the rest is the network's."""
MOST_ROWS: Final = 300_000


@dataclass(frozen=True)
class Trees:
    """Boosted trees as margins, and what they split by."""

    booster: lightgbm.Booster

    def __call__(self, rows: Float32) -> Float32:
        margins: Float32 = np.asarray(self.booster.predict(rows, raw_score=True)).astype(np.float32)
        return margins

    def gain(self) -> Float64:
        """[F] the share of all splits' loss reduction that is each feature's."""
        gain = np.asarray(self.booster.feature_importance("gain"), np.float64)
        return gain / max(float(gain.sum()), 1e-12)


def fit(kind: str, features: Float32, is_fraud: Labels, seed: int) -> Margins:
    """A model of one of MODELS; the same data, seed and libraries give the same margins."""
    if kind == "blend":
        trees, network = (fit(one, features, is_fraud, seed) for one in ("trees", "mlp"))
        return lambda rows: (TREES_SHARE * trees(rows) + (1 - TREES_SHARE) * network(rows)).astype(np.float32)
    features, is_fraud = fewer(features, is_fraud, seed)
    return fit_network(features, is_fraud, seed).margin if kind == "mlp" else _fit_trees(features, is_fraud, seed)


def fewer(features: Float32, is_fraud: Labels, seed: int) -> tuple[Float32, Labels]:
    """At most MOST_ROWS: all frauds, and genuine payments by chance; calibration puts the odds right again."""
    if len(features) <= MOST_ROWS:
        return features, is_fraud
    chance = np.random.default_rng(seed).random(len(features))
    frauds = int(is_fraud.sum())
    kept = (is_fraud == 1) | (chance < (MOST_ROWS - frauds) / (len(features) - frauds))
    return features[kept], is_fraud[kept]


def _fit_trees(features: Float32, is_fraud: Labels, seed: int) -> Margins:
    booster = fit_trees(
        features, is_fraud, seed=seed, trees=TREES, progress=lambda share, text: None, parameters=SMALL_TREES
    )
    return Trees(booster)
