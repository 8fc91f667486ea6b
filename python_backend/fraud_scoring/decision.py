"""From the model's margin to a decision: calibrate, compare with two thresholds, name the reasons.

Calibration is a table of rising knots with straight lines between them: comparison, multiplication and addition only,
so that a score has the same bits on every machine and in every batch. Reasons are points of a scorecard: for each
feature the log odds of fraud in its bin against the average, added up per reason code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.features import Float32, Float64

Int32 = npt.NDArray[np.int32]

LEAST_POINTS: Final = 0.4
"""From here on a group of features is named as a reason: the odds of fraud are half as high again as on average."""


@dataclass(frozen=True)
class ScorecardFeature:
    """Points of one feature: bin i holds values in [edges[i−1], edges[i]) and gives points[i]."""

    name: str
    reason: int
    edges: Float64
    points: Float64


@dataclass(frozen=True)
class DecisionRule:
    """All parameters of a release's decision stage; `release` is its number, `base_log_odds` the average's log odds."""

    release: int
    margins: Float64
    probabilities: Float64
    review_at: float
    decline_at: float
    scorecard: tuple[ScorecardFeature, ...]
    base_log_odds: float = 0.0

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

    def calibrate(self, margin: Float32) -> Float32:
        """Probability of fraud FP32 [N] for the model's margin FP32 [N]."""
        return np.interp(margin.astype(np.float64), self.margins, self.probabilities).astype(np.float32)

    def decide(self, margin: Float32, features: Float32) -> tuple[Float32, Int32]:
        """(score FP32 [N, 1], verdict INT32 [N, 6]) for margin FP32 [N, 1] and features FP32 [N, F].

        ReleaseUnavailable for a margin that is no number: it must not become an approval.
        """
        if not np.isfinite(margin).all():
            raise ReleaseUnavailable("the release's model gave a margin that is no number; nothing was decided")
        score = self.calibrate(margin[:, 0])
        verdict = self.verdict(score)
        flagged = np.flatnonzero(verdict[:, 0])
        if len(flagged):
            verdict[flagged, 1 : 1 + wire.REASON_SLOTS] = self.reasons(features[flagged])
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

    def reasons(self, features: Float32) -> Int32:
        """The reason codes INT32 [N, 3] with the most points, most first; 0 where none has LEAST_POINTS."""
        codes = sorted({feature.reason for feature in self.scorecard if feature.reason})
        points = np.zeros((len(features), len(codes)), np.float64)
        for position, feature in enumerate(self.scorecard):
            if feature.reason:
                bins = np.searchsorted(feature.edges, features[:, position], side="right")
                points[:, codes.index(feature.reason)] += feature.points[bins]
        out = np.zeros((len(features), wire.REASON_SLOTS), np.int32)
        order = np.argsort(-points, axis=1, kind="stable")[:, : wire.REASON_SLOTS]
        best = np.take_along_axis(points, order, axis=1)
        named = np.array(codes, np.int32)[order]
        out[:, : order.shape[1]] = np.where(best >= LEAST_POINTS, named, 0)
        return out

    def to_json(self) -> str:
        """The rule as text; floats keep every bit."""
        return json.dumps(
            {
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
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> DecisionRule:
        """The rule that `to_json` wrote; InvalidDefinition for anything else."""
        try:
            document: dict[str, Any] = json.loads(text)
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
            )
        except (ValueError, KeyError, TypeError):
            raise InvalidDefinition("decision: the parameters' file is broken; restore the release") from None
