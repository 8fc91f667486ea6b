"""The last resorts: an answer from the transaction alone, when nothing may be decided properly.

Log odds add up: the average, and the points of the features that need no history (amount, time). No store, no release,
no log. The answer says SCORECARD as its source. Behind it, where a route table wants it so, the amount alone decides.
"""

from __future__ import annotations

import numpy as np

from fraud_scoring import wire
from fraud_scoring.decision import DecisionRule
from fraud_scoring.features import FeatureSet
from fraud_scoring.routes import ByAmount
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


def by_amount(rule: DecisionRule, limits: ByAmount, amounts: Int64) -> Answers:
    """Answers by amounts int64 [N] (minor units): the average score, and the decision that was stated beforehand."""
    score = np.full(len(amounts), 1.0 / (1.0 + np.exp(-rule.base_log_odds)), np.float32)
    verdict = np.zeros((len(amounts), wire.VERDICT_WIDTH), np.int32)
    for limit, decision in ((limits.review_from, wire.Decision.REVIEW), (limits.decline_from, wire.Decision.DECLINE)):
        if limit is not None:
            verdict[amounts >= limit, 0] = decision
    verdict[:, 4] = rule.release
    verdict[:, 5] = wire.Source.BY_AMOUNT
    return Answers(score[:, None], verdict, np.empty((len(amounts), 0), np.float32))
