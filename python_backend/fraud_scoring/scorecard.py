"""The last resort: a score from the transaction alone, when nothing may be decided properly.

Log odds add up: the average, and the points of the features that need no history (amount, time). No store, no release,
no log. The answer says SCORECARD as its source.
"""

from __future__ import annotations

import numpy as np

from fraud_scoring import wire
from fraud_scoring.decision import DecisionRule
from fraud_scoring.features import FeatureSet
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers
from fraud_scoring.windows import Int64


class Scorecard:
    """Answers for rows int64 [N, C] by the points that a release's decision rule carries."""

    def __init__(self, schema: Schema, rule: DecisionRule) -> None:
        self._features = FeatureSet(schema)
        self._rule = rule
        self._known = [position for position, feature in enumerate(schema.features) if not feature.entity]

    def __call__(self, rows: Int64) -> Answers:
        features = self._features.of_rows(rows)
        log_odds = np.full(len(rows), self._rule.base_log_odds)
        for position in self._known:
            card = self._rule.scorecard[position]
            log_odds += card.points[np.searchsorted(card.edges, features[:, position], side="right")]
        score = (1.0 / (1.0 + np.exp(-log_odds))).astype(np.float32)
        verdict = self._rule.verdict(score)
        verdict[:, 5] = wire.Source.SCORECARD
        return Answers(score[:, None], verdict, np.empty((len(rows), 0), np.float32))
