"""Margin and features to score and verdict, by the parameters that the release pins.

Where rows are reviewed or declined, the release's model is called once more: the reasons are what it says.
"""

from functools import partial

from fraud_scoring import triton_io, wire
from fraud_scoring.decision import DecisionRule
from fraud_scoring.errors import FraudError
from fraud_scoring.releases import DECISION_FILE


class TritonPythonModel:
    def initialize(self, args):
        text = (triton_io.version_folder(args) / DECISION_FILE).read_text(encoding="utf-8")
        self.rule = DecisionRule.from_json(text)
        self.model = partial(triton_io.call_model, self.rule.release)

    def execute(self, requests):
        margin, counts = triton_io.joined(requests, "margin")
        features, _ = triton_io.joined(requests, wire.FEATURES)
        try:
            score, verdict = self.rule.decide(margin, features, self.model)
        except FraudError as error:
            return [triton_io.error_response(error) for _ in requests]
        return triton_io.responses(counts, score=score, verdict=verdict)
