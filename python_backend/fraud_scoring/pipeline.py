"""A release in one process: features → model → decision. Only the model may run elsewhere.

The front door answers with it, and so does everything offline (evaluation, golden vectors, replay): what is decided
offline is what is decided online, bit for bit, because it is this code on the same graph.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fraud_scoring.decision import DecisionRule
from fraud_scoring.features import FeatureSet, Float32, replay
from fraud_scoring.releases import MODEL_FILE, decision_rule, part_name, pinned_schema
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers
from fraud_scoring.windows import History, Int64

Margin = Callable[[Float32], Float32]
"""A release's model: margins FP32 [N, 1] for features FP32 [N, F]."""


class Pipeline:
    """Features → model → decision; `margin` is the model."""

    def __init__(self, schema: Schema, rule: DecisionRule, margin: Margin) -> None:
        self.schema = schema
        self.rule = rule
        self.margin = margin
        self._features = FeatureSet(schema)

    @classmethod
    def load(cls, repository: Path, release: int, margin: Margin | None = None) -> Pipeline:
        """The release as it lies in `repository`; with its graph in this process, unless `margin` says where it is."""
        margin = margin or load_graph(repository, release)
        return cls(pinned_schema(repository, release), decision_rule(repository, release), margin)

    def features(self, rows: Int64, histories: Sequence[History]) -> Float32:
        """Features FP32 [N, F] of `rows` int64 [N, C] with what the store holds of their entities."""
        return self._features.compute(rows, histories)

    def decide(self, features: Float32, margin: Margin | None = None, explain: Margin | None = None) -> Answers:
        """Score and verdict of features FP32 [N, F].

        `margin`: the model as it is to be asked this time; `explain`: as it is to be asked for the reasons of what is
        reviewed or declined, which are left out where that raises ReleaseUnavailable.
        """
        ask = margin or self.margin
        score, verdict = self.rule.decide(ask(features), features, explain or ask)
        return Answers(score, verdict, features)

    def answer(self, rows: Int64, histories: Sequence[History]) -> Answers:
        """Answers for `rows` int64 [N, C] with what the store holds of their entities."""
        return self.decide(self.features(rows, histories))

    def answer_alone(self, rows: Int64) -> Answers:
        """Answers for `rows` int64 [N, C] of entities that nothing is known of but these rows."""
        return self.decide(np.ascontiguousarray(replay(self.schema, rows)))


def load_graph(repository: Path, release: int) -> Margin:
    """The graph of a release as it lies in `repository`, in this process: trees without branches, else ONNX Runtime."""
    from fraud_scoring import branchless  # reads graphs: not wanted by who only decides

    graph = (repository / part_name("model", release) / "1" / MODEL_FILE).read_bytes()
    margin = in_this_process(graph)
    return branchless.of_graph(graph, margin) or margin


def in_this_process(graph: bytes) -> Margin:
    """The model of a serialised ONNX graph: ONNX Runtime on one thread of this process."""
    onnxruntime: Any = importlib.import_module("onnxruntime")  # heavy, and not wanted by who only decides
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def margin(features: Float32) -> Float32:
        found: Float32 = session.run(["margin"], {"features": features})[0]
        return found

    return margin
