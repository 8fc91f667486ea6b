"""A release in this process, without a server: the same features, the same graph, the same decision rule.

Used offline (evaluation, golden vectors, replay); what it answers is what the served release answers, bit for bit.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fraud_scoring.decision import DecisionRule
from fraud_scoring.features import FeatureSet, Float32, replay
from fraud_scoring.releases import MODEL_FILE, decision_rule, part_name, pinned_schema
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers
from fraud_scoring.windows import History, Int64


class Pipeline:
    """Features → model → decision; `graph` is the serialised ONNX model."""

    def __init__(self, schema: Schema, graph: bytes, rule: DecisionRule) -> None:
        onnxruntime: Any = importlib.import_module("onnxruntime")  # heavy, and not wanted by who only decides
        self.schema = schema
        self.rule = rule
        self._features = FeatureSet(schema)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @classmethod
    def load(cls, repository: Path, release: int) -> Pipeline:
        """The release as it lies in `repository`."""
        graph = (repository / part_name("model", release) / "1" / MODEL_FILE).read_bytes()
        return cls(pinned_schema(repository, release), graph, decision_rule(repository, release))

    def margin(self, features: Float32) -> Float32:
        """The model's margin FP32 [N, 1] for features FP32 [N, F]."""
        found: Float32 = self._session.run(["margin"], {"features": features})[0]
        return found

    def decide(self, features: Float32) -> Answers:
        """Score and verdict of features FP32 [N, F]."""
        score, verdict = self.rule.decide(self.margin(features), features, self.margin)
        return Answers(score, verdict, features)

    def answer(self, rows: Int64, histories: Sequence[History]) -> Answers:
        """Answers for `rows` int64 [N, C] with what the store holds of their entities."""
        return self.decide(self._features.compute(rows, histories))

    def answer_alone(self, rows: Int64) -> Answers:
        """Answers for `rows` int64 [N, C] of entities that nothing is known of but these rows."""
        return self.decide(np.ascontiguousarray(replay(self.schema, rows)))
