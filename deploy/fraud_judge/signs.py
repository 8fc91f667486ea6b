"""What a row shows: events that are counted by arm, as bits.

An arm is who was assigned, not who answered: a row of the canary's buckets counts for the canary even where the
fallback answered it.

Where scores lie is compared with a tolerance in log odds, against the finding: of "more scores below the lower
quartile" a canary's row counts when it lies below by more than the tolerance, of "fewer from the 95% quantile on" when
it does not reach up to the tolerance below it. So a calibration with another lowest step, which moves the scores of a
quarter of the payments by next to nothing, is no shift; what is beyond the tolerance is found as before.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint16]

FALLBACK: Final = 0
SLOW: Final = 1
DECLINED: Final = 2
FLAGGED: Final = 3
MORE: Final = slice(4, 10)
"""Where scores lie: the canary must not show these more often."""
FEWER: Final = slice(10, 13)
"""Nor these less often."""
SEEN: Final = 13
"""Every row."""
EVENTS: Final = (
    "fallback",
    "slow",
    "declined",
    "reviewed or declined",
    "score below the lower quartile",
    "score below the median",
    "score from the median on",
    "score from the upper quartile on",
    "score from the 95% quantile on",
    "score from the 99% quantile on",
    "score from about the upper quartile on",
    "score from about the 95% quantile on",
    "score from about the 99% quantile on",
    "seen",
)
LEVELS: Final = (0.25, 0.5, 0.75, 0.95, 0.99)


class Rows(NamedTuple):
    """Answers, one row each. `at_us` when they were logged; `release`, `decision`, `source` as in the verdict."""

    at_us: Int64
    identifier: Int64
    customer: Int64
    bucket: Int64
    score: Float32
    decision: Int64
    release: Int64
    source: Int64
    latency_us: Int64

    def pick(self, which: Any) -> Rows:
        """The rows of an index or a mask."""
        return Rows(*(column[which] for column in self))


@dataclass(frozen=True)
class Baseline:
    """How the champion answered before: score levels (LEVELS) and the p99 of its latency."""

    levels: tuple[float, ...]
    slow_us: float
    rows: int

    @classmethod
    def of(cls, rows: Rows) -> Baseline:
        """From rows that the champion answered itself."""
        own = rows.pick(rows.source <= wire.Source.CANARY)
        levels = np.quantile(own.score, LEVELS)
        return cls(tuple(float(level) for level in levels), float(np.quantile(own.latency_us, 0.99)), len(own.score))

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "levels": list(self.levels)}

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Baseline:
        return cls(tuple(document["levels"]), document["slow_us"], document["rows"])

    def events(self, rows: Rows, share: int, tolerance: float) -> Bits:
        """The events of each row, uint16 [N]; bit i is EVENTS[i].

        The first `share` buckets are the canary's; `tolerance` is that of its scores, in log odds.
        """
        margin = np.where(rows.bucket < share, tolerance, 0.0)
        score = log_odds(rows.score)
        lower, middle, *upper = log_odds(np.array(self.levels))
        shown = (
            rows.source > wire.Source.CANARY,
            rows.latency_us > self.slow_us,
            rows.decision == wire.Decision.DECLINE,
            rows.decision != wire.Decision.APPROVE,
            score < lower - margin,
            score < middle - margin,
            score >= middle + margin,
            *(score >= level + margin for level in upper),
            *(score >= level - margin for level in upper),
            np.ones(len(rows.score), np.bool_),
        )
        bits = np.zeros(len(rows.score), np.uint16)
        for place, one in enumerate(shown):
            bits |= one.astype(np.uint16) << np.uint16(place)
        return bits


def log_odds(probability: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """ln(p / (1 − p)); what is no number stays none, and then shows no event of a score."""
    exact = probability.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(exact) - np.log1p(-exact))
