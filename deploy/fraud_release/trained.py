"""What a release has learned: trees, a network, or both; as margins, as the graph that is served, and as files.

The files are what the exported graph is compared with, long after the training: trees as LightGBM writes them, and the
network's whole numbers. Their margins here go other ways than the graph's: LightGBM's own code, integers of 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import lightgbm
import numpy as np
import onnx
from onnx import helper, numpy_helper

from fraud_release import network_onnx, tree_onnx
from fraud_release.files import NETWORK_FILE, TREES_FILE
from fraud_release.learning import Labels, Progress, fit_trees
from fraud_release.models import MODELS, TREES_SHARE, fewer
from fraud_release.network import Network, fit_network
from fraud_scoring.errors import InvalidInput
from fraud_scoring.features import Float32

_SHARES: Final = np.array([TREES_SHARE, 1 - TREES_SHARE], np.float32)
"""Of the trees' margin and of the network's, where a release has both."""


@dataclass(frozen=True)
class TrainedModel:
    """At least one of the two; with both, the margin is their weighted sum."""

    trees: lightgbm.Booster | None
    network: Network | None

    def margin(self, features: Float32) -> Float32:
        """Log odds FP32 [N] of features FP32 [N, F], before calibration."""
        margins = []
        if self.trees is not None:
            margins.append(np.asarray(self.trees.predict(features, raw_score=True)).astype(np.float32))
        if self.network is not None:
            margins.append(self.network.margin(features))
        if len(margins) == 1:
            return margins[0]
        both: Float32 = margins[0] * _SHARES[0] + margins[1] * _SHARES[1]
        return both

    def graph(self, feature_count: int) -> onnx.ModelProto:
        """features FP32 [N, F] → margin FP32 [N, 1], with the bits of `margin` whatever the batch."""
        if self.trees is None:
            assert self.network is not None
            return network_onnx.to_onnx(self.network)
        model = tree_onnx.to_onnx(self.trees, feature_count)
        return model if self.network is None else _blend(model, self.network)

    def files(self) -> dict[str, bytes]:
        found = {}
        if self.trees is not None:
            found[TREES_FILE] = self.trees.model_to_string().encode()
        if self.network is not None:
            found[NETWORK_FILE] = self.network.to_json().encode()
        return found

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> TrainedModel | None:
        """What `files` wrote; None where there is none of them."""
        trees, network = files.get(TREES_FILE), files.get(NETWORK_FILE)
        if trees is None and network is None:
            return None
        return cls(
            None if trees is None else lightgbm.Booster(model_str=trees.decode()),
            None if network is None else Network.from_json(network.decode()),
        )


def fit_model(
    kind: str, features: Float32, is_fraud: Labels, *, seed: int, trees: int, progress: Progress
) -> TrainedModel:
    """A model of one of MODELS; the same data, seed and libraries give the same. InvalidInput for another kind."""
    if kind not in MODELS:
        raise InvalidInput(f"model: {kind!r} is none of {', '.join(MODELS)}")
    booster = network = None
    if kind != "mlp":
        booster = fit_trees(features, is_fraud, seed=seed, trees=trees, progress=progress)
    if kind != "trees":
        progress(1.0 if booster else 0.0, "training the network")
        network = fit_network(*fewer(features, is_fraud, seed), seed)
    return TrainedModel(booster, network)


def _blend(model: onnx.ModelProto, network: Network) -> onnx.ModelProto:
    """The trees' graph with the network beside it, and the weighted sum of both margins."""
    graph = model.graph
    graph.name = "blend"
    for node in graph.node:
        node.output[:] = ["trees.margin" if name == "margin" else name for name in node.output]
    network_onnx.add_network(graph, network, "network.margin")
    for name, share in zip(("trees", "network"), _SHARES, strict=True):
        graph.initializer.append(numpy_helper.from_array(np.array(share), f"{name}.share"))
        graph.node.append(helper.make_node("Mul", [f"{name}.margin", f"{name}.share"], [f"{name}.part"]))
    graph.node.append(helper.make_node("Add", ["trees.part", "network.part"], ["margin"], "margin"))
    onnx.checker.check_model(model)
    return model
