"""From the model's margin to a decision: calibrate, compare with two thresholds, name the reasons.

Calibration is a table of rising knots with straight lines between them: comparison, multiplication and addition only,
so that a score has the same bits on every machine and in every batch.

Reasons are for what is reviewed or declined. They name the groups of features that pushed the model's margin up, by
their exact Shapley values (`fraud_scoring.shapley`); a group with several codes is named by the code with the most
points of the scorecard. The points are, for each feature, the log odds of fraud in its bin against the average. A
release without a background has the points alone, added up per reason code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.features import Float32, Float64
from fraud_scoring.reasons import NOT_WORKED_OUT
from fraud_scoring.shapley import Explanation, Model
from fraud_scoring.windows import Int64

Int32 = npt.NDArray[np.int32]

LEAST_POINTS: Final = 0.4
"""From here on a group of features is named as a reason: the odds of fraud are half as high again as on average."""
LEAST_SHARE: Final = 10
"""A group is named as a reason if it gave at least 1/LEAST_SHARE of what all groups that push the margin up gave."""
VERSION: Final = 2
"""Of decision.json; 1, or no version at all, is a rule without an explanation."""


@dataclass(frozen=True)
class ScorecardFeature:
    """Points of one feature: bin i holds values in [edges[i−1], edges[i]) and gives points[i]."""

    name: str
    reason: int
    edges: Float64
    points: Float64


@dataclass(frozen=True)
class DecisionRule:
    """All parameters of a release's decision stage; `release` is its number, `base_log_odds` the average's log odds.

    Without an `explanation` the reasons are the scorecard's points.
    """

    release: int
    margins: Float64
    probabilities: Float64
    review_at: float
    decline_at: float
    scorecard: tuple[ScorecardFeature, ...]
    base_log_odds: float = 0.0
    explanation: Explanation | None = None

    def __post_init__(self) -> None:
        if len(self.margins) < 2 or len(self.margins) != len(self.probabilities):
            raise InvalidDefinition("decision: the calibration needs two knots or more, a probability for each margin")
        if not np.isfinite(self.margins).all() or not (np.diff(self.margins) > 0).all():
            raise InvalidDefinition("decision: the calibration's margins must be finite and rise")
        inside = (self.probabilities >= 0) & (self.probabilities <= 1)
        if not inside.all() or not (np.diff(self.probabilities) >= 0).all():
            raise InvalidDefinition("decision: the calibration's probabilities must lie within 0 to 1 and not fall")
        if not 0 <= self.review_at <= self.decline_at:
            raise InvalidDefinition("decision: thresholds must be 0 ≤ review_at ≤ decline_at")
        for feature in self.scorecard:
            if len(feature.points) != len(feature.edges) + 1 or not (np.diff(feature.edges) > 0).all():
                raise InvalidDefinition(
                    f"decision: scorecard of {feature.name}: the edges must rise, and points are one more"
                )
        if self.explanation is not None and len(self.scorecard) != self.explanation.background.shape[1]:
            raise InvalidDefinition(
                "decision: the scorecard and the explanation's background must have the same features"
            )

    def calibrate(self, margin: Float32) -> Float32:
        """Probability of fraud FP32 [N] for the model's margin FP32 [N]."""
        return np.interp(margin.astype(np.float64), self.margins, self.probabilities).astype(np.float32)

    def decide(self, margin: Float32, features: Float32, model: Model | None = None) -> tuple[Float32, Int32]:
        """(score FP32 [N, 1], verdict INT32 [N, 6]) for margin FP32 [N, 1] and features FP32 [N, F].

        `model` is the release's own; it is called only where rows are reviewed or declined, and only by a rule with an
        explanation, which needs it. Where it does not answer, the decision stands, and the rows that it leaves
        unexplained have NOT_WORKED_OUT as their reason. ReleaseUnavailable for a margin that is no number: it must not
        become an approval.
        """
        if not np.isfinite(margin).all():
            raise ReleaseUnavailable("the release's model gave a margin that is no number; nothing was decided")
        score = self.calibrate(margin[:, 0])
        verdict = self.verdict(score)
        (flagged,) = verdict[:, 0].nonzero()
        if len(flagged):
            verdict[flagged, 1 : 1 + wire.REASON_SLOTS] = self._reasons(margin[flagged], features[flagged], model)
        return score[:, None], verdict

    def verdict(self, score: Float32) -> Int32:
        """Verdicts INT32 [N, 6] for scores FP32 [N], without reasons."""
        verdict = np.zeros((len(score), wire.VERDICT_WIDTH), np.int32)
        verdict[:, 0] = wire.Decision.APPROVE
        verdict[score >= np.float32(self.review_at), 0] = wire.Decision.REVIEW
        verdict[score >= np.float32(self.decline_at), 0] = wire.Decision.DECLINE
        verdict[:, 4] = self.release
        verdict[:, 5] = wire.Source.PRIMARY
        return verdict

    def _reasons(self, margin: Float32, features: Float32, model: Model | None) -> Int32:
        if self.explanation is None:
            return self.reasons(features)
        if model is None:
            raise ReleaseUnavailable("the release's reasons need its model, which was not given; nothing was decided")
        out = np.zeros((len(features), wire.REASON_SLOTS), np.int32)
        out[:, 0] = NOT_WORKED_OUT
        with suppress(ReleaseUnavailable):
            for part in self.explanation.parts(len(features)):
                values = self.explanation.values(features[part], margin[part], model)
                out[part] = self.explained_reasons(values, features[part])
        return out

    def explained_reasons(self, values: Int64, features: Float32) -> Int32:
        """The reason codes INT32 [N, 3] of the groups that pushed the margin up, most first; 0 where there is no more.

        `values` int64 [N, G] are the groups' Shapley values of features FP32 [N, F].
        """
        assert self.explanation is not None
        rise = np.maximum(values, 0).sum(axis=1)
        named = (values > 0) & (values * LEAST_SHARE >= rise[:, None])
        codes = np.zeros(values.shape, np.int32)
        for g in np.flatnonzero(named.any(axis=0)):
            codes[:, g] = self._telling(self.explanation.groups[g].features, features)
        order = np.argsort(-values, axis=1, kind="stable")
        out = np.zeros((len(features), wire.REASON_SLOTS), np.int32)
        for i, groups in enumerate(order):
            found = dict.fromkeys(codes[i, g] for g in groups if named[i, g] and codes[i, g])
            first = list(found)[: wire.REASON_SLOTS]
            out[i, : len(first)] = first
        return out

    def _telling(self, group: tuple[int, ...], features: Float32) -> Int32:
        """For each row the group's reason code INT32 [N] with the most points; 0 if its features have none."""
        codes, points = self._points(features, group)
        if not codes:
            return np.zeros(len(features), np.int32)
        found: Int32 = np.array(codes, np.int32)[np.argmax(points, axis=1)]
        return found

    def _points(self, features: Float32, positions: Iterable[int]) -> tuple[list[int], Float64]:
        """(the reason codes of these features, rising; their points [N, codes])."""
        cards = [(position, self.scorecard[position]) for position in positions if self.scorecard[position].reason]
        codes = sorted({card.reason for _, card in cards})
        points = np.zeros((len(features), len(codes)), np.float64)
        for position, card in cards:
            bins = card.edges.searchsorted(features[:, position], side="right")
            points[:, codes.index(card.reason)] += card.points[bins]
        return codes, points

    def reasons(self, features: Float32) -> Int32:
        """By points alone: the reason codes INT32 [N, 3] with the most, most first; 0 where none has LEAST_POINTS."""
        codes, points = self._points(features, range(len(self.scorecard)))
        out = np.zeros((len(features), wire.REASON_SLOTS), np.int32)
        order = np.argsort(-points, axis=1, kind="stable")[:, : wire.REASON_SLOTS]
        best = np.take_along_axis(points, order, axis=1)
        named = np.array(codes, np.int32)[order]
        out[:, : order.shape[1]] = np.where(best >= LEAST_POINTS, named, 0)
        return out

    def to_json(self) -> str:
        """The rule as text; floats keep every bit."""
        explanation = {} if self.explanation is None else {"explanation": self.explanation.document()}
        return json.dumps(
            {
                "version": VERSION if explanation else 1,
                "release": self.release,
                "base_log_odds": self.base_log_odds,
                "calibration": {
                    "margins": self.margins.tolist(),
                    "probabilities": self.probabilities.tolist(),
                },
                "review_at": self.review_at,
                "decline_at": self.decline_at,
                "scorecard": [
                    {
                        "name": f.name,
                        "reason": f.reason,
                        "edges": f.edges.tolist(),
                        "points": f.points.tolist(),
                    }
                    for f in self.scorecard
                ],
                **explanation,
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> DecisionRule:
        """The rule that `to_json` wrote; InvalidDefinition for anything else."""
        try:
            document: dict[str, Any] = json.loads(text)
            version, explanation = document.get("version", 1), document.get("explanation")
            if version not in (1, VERSION) or (explanation is None) != (version == 1):
                raise InvalidDefinition(
                    f"decision: the parameters' file has form {version}; this code reads forms 1 and {VERSION}, the "
                    "second with an explanation: serve the release with the code that made it"
                )
            return cls(
                release=document["release"],
                margins=np.array(document["calibration"]["margins"], np.float64),
                probabilities=np.array(document["calibration"]["probabilities"], np.float64),
                base_log_odds=document.get("base_log_odds", 0.0),
                review_at=document["review_at"],
                decline_at=document["decline_at"],
                scorecard=tuple(
                    ScorecardFeature(
                        f["name"], f["reason"], np.array(f["edges"], np.float64), np.array(f["points"], np.float64)
                    )
                    for f in document["scorecard"]
                ),
                explanation=None if explanation is None else Explanation.read(explanation),
            )
        except (AttributeError, ValueError, KeyError, TypeError):
            raise InvalidDefinition("decision: the parameters' file is broken; restore the release") from None
