"""The wire contract: every tensor name, dtype, code and limit, in one place.

`fraud_score`     in  transaction INT64 [N, C]   columns of the release's schema (five by default)
                  out score       FP32  [N, 1]   calibrated probability of fraud, 0 to 1
                  out verdict     INT32 [N, 6]   VERDICT_COLUMNS
                  out features    FP32  [N, F]   what the model saw; only when asked for
`fraud_feedback`  in  label       INT64 [N, 3]   LABEL_COLUMNS
                  out accepted    INT32 [N, 1]   Accepted
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from fraud_scoring.reasons import reason_text

__all__ = [
    "ACCEPTED",
    "DEFAULT_DEADLINE_US",
    "DEGRADED",
    "FEATURES",
    "FEEDBACK_MODEL",
    "FRONT_DOOR_MODEL",
    "LABEL",
    "LABEL_COLUMNS",
    "MAX_DEADLINE_US",
    "MAX_ROWS",
    "PARAMETERS",
    "PARAMETER_DEADLINE",
    "PARAMETER_PURPOSE",
    "PURPOSES",
    "PURPOSE_DRY_RUN",
    "PURPOSE_SCORE",
    "REASON_SLOTS",
    "SCORE",
    "SCORE_MODEL",
    "TRANSACTION",
    "VERDICT",
    "VERDICT_COLUMNS",
    "VERDICT_DECISION",
    "VERDICT_REASONS",
    "VERDICT_RELEASE",
    "VERDICT_SOURCE",
    "VERDICT_WIDTH",
    "Accepted",
    "Decision",
    "Source",
    "reason_text",
]

SCORE_MODEL: Final = "fraud_score"
FRONT_DOOR_MODEL: Final = "fraud_front_door"
"""What `fraud_score` calls once for all requests of a batch; not for callers."""
FEEDBACK_MODEL: Final = "fraud_feedback"

TRANSACTION: Final = "transaction"
SCORE: Final = "score"
VERDICT: Final = "verdict"
FEATURES: Final = "features"
LABEL: Final = "label"
ACCEPTED: Final = "accepted"

MAX_ROWS: Final = 1024
"""Most rows in one request."""

PARAMETER_DEADLINE: Final = "deadline_us"
PARAMETER_PURPOSE: Final = "purpose"
PARAMETERS: Final = (PARAMETER_DEADLINE, PARAMETER_PURPOSE)
DEFAULT_DEADLINE_US: Final = 80_000
MAX_DEADLINE_US: Final = 60_000_000

PURPOSE_SCORE: Final = "score"
PURPOSE_DRY_RUN: Final = "dry_run"
"""Scored as if it were real, but neither recorded nor logged as a decision."""
PURPOSES: Final = (PURPOSE_SCORE, PURPOSE_DRY_RUN)

REASON_SLOTS: Final = 3
VERDICT_COLUMNS: Final = ("decision", "reason_1", "reason_2", "reason_3", "release", "source")
VERDICT_WIDTH: Final = len(VERDICT_COLUMNS)
VERDICT_DECISION: Final = VERDICT_COLUMNS.index("decision")
VERDICT_REASONS: Final = slice(VERDICT_COLUMNS.index("reason_1"), VERDICT_COLUMNS.index("reason_1") + REASON_SLOTS)
VERDICT_RELEASE: Final = VERDICT_COLUMNS.index("release")
VERDICT_SOURCE: Final = VERDICT_COLUMNS.index("source")
"""Where each stands in a verdict."""
LABEL_COLUMNS: Final = ("transaction_id", "is_fraud", "known_at_us")


class Decision(IntEnum):
    """What to do with the payment (`verdict` column 0)."""

    APPROVE = 0
    REVIEW = 1
    DECLINE = 2


class Source(IntEnum):
    """Who decided (`verdict` column 5); anything but PRIMARY and CANARY is a degraded answer.

    From SCORECARD on no release decided: such an answer has no features.
    """

    PRIMARY = 0
    CANARY = 1
    FALLBACK_RELEASE = 2
    SCORECARD = 3
    BY_AMOUNT = 4


DEGRADED: Final = (Source.FALLBACK_RELEASE, Source.SCORECARD, Source.BY_AMOUNT)
"""Sources of degraded answers."""


class Accepted(IntEnum):
    """What became of a label (`accepted`)."""

    UNKNOWN_TRANSACTION = 0
    APPLIED = 1
    ALREADY_KNOWN = 2
